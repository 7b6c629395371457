"""A leaderboard as the table of a page: its columns, and the rows that a user wants to see, in their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.routes.pages.table_query import TableQuery
    from service.schemas.leaderboards import EntryView, LeaderboardView


@dataclass(frozen=True)
class Column:
    """One that the table can be sorted by."""

    key: str
    title: str
    value: Callable[[EntryView], float | str | None]
    best_first: bool = False
    """Whether the greatest comes first when it is chosen."""
    group: str = ""
    """The heading above it, that it shares with its neighbours."""


@dataclass(frozen=True)
class Heading:
    """A column's heading."""

    column: Column
    address: str | None
    """Of the page sorted by it, or sorted by it the other way round; None where it cannot be."""
    direction: str | None
    """As ARIA has it, if the table is sorted by it."""


@dataclass(frozen=True)
class Table:
    """A leaderboard's rows as they are shown."""

    headings: tuple[Heading, ...]
    rows: Sequence[EntryView]
    tied: frozenset[int]
    """Ranks that several entries share."""


def columns(bit_widths: Sequence[str]) -> tuple[Column, ...]:
    """Those of a leaderboard at some bit widths, in their order."""
    ranking, *others = bit_widths

    def test(bits: str) -> Callable[[EntryView], float | None]:
        return lambda entry: entry.accuracy[bits].test

    return (
        Column("rank", "Rank", lambda entry: entry.rank),
        Column("architecture", "Architecture", lambda entry: entry.architecture),
        Column("accuracy", f"{ranking} val. %", lambda entry: entry.accuracy[ranking].validation, best_first=True),
        Column("seeds", "Seeds", lambda entry: len(entry.seeds), best_first=True),
        *(Column(bits, bits, test(bits), best_first=True, group="Test %") for bits in (ranking, *others, "float")),
        Column("drop", "Drop", lambda entry: entry.drop),
        Column("parameters", "Parameters", lambda entry: entry.parameters),
        Column("macs", "MACs", lambda entry: entry.macs),
        Column("bit_operations", "Bit ops", lambda entry: entry.bit_operations[ranking], group=f"At {ranking}"),
        Column("model_bytes", "Bytes", lambda entry: entry.model_bytes[ranking], group=f"At {ranking}"),
        Column("train_seconds", "Training", lambda entry: entry.train_seconds),
    )


def headings(
    known: Sequence[Column], sort: str, keys: Mapping[str, str], address: Callable[[str], str]
) -> tuple[Heading, ...]:
    """Of a table that is sorted by ``sort``: a key, downwards with a minus before it.

    ``keys`` has the sort keys of the columns that have one, ``address`` the page sorted by one.
    """
    found = []
    for column in known:
        key = keys.get(column.key)
        if key is None:
            found.append(Heading(column, None, None))
        elif key == sort.removeprefix("-"):
            is_downwards = sort.startswith("-")
            turned = key if is_downwards else f"-{key}"
            found.append(Heading(column, address(turned), "descending" if is_downwards else "ascending"))
        else:
            found.append(Heading(column, address(f"-{key}" if column.best_first else key), None))
    return tuple(found)


def tied_ranks(leaderboard: LeaderboardView) -> frozenset[int]:
    """Ranks that several of the entries share."""
    counts = Counter(entry.rank for entry in leaderboard.entries if not entry.diverged)
    return frozenset(rank for rank, count in counts.items() if count > 1)


def table_of(leaderboard: LeaderboardView, query: TableQuery) -> tuple[Table, int]:
    """The rows of a whole leaderboard that pass the filters, in the order asked for, and how many there are of them.

    Those without the value that they are sorted by come last either way.
    """
    known = columns(leaderboard.bit_widths)
    chosen = next((column for column in known if column.key == query.sort.removeprefix("-")), known[0])
    found = [entry for entry in leaderboard.entries if _passes(entry, query)]
    having = [entry for entry in found if chosen.value(entry) is not None]
    is_downwards = query.sort.startswith("-")
    having.sort(key=chosen.value, reverse=is_downwards)  # type: ignore[arg-type]  # a column's values are alike
    ordered = having + [entry for entry in found if chosen.value(entry) is None]
    keys = {column.key: column.key for column in known}
    shown = headings(known, query.sort, keys, lambda sort: query.address(sort=sort))
    return Table(shown, ordered[: query.rows], tied_ranks(leaderboard)), len(found)


def _passes(entry: EntryView, query: TableQuery) -> bool:
    most = query.most_parameters
    return (
        (not query.block or entry.block in query.block)
        and query.name.lower() in entry.architecture.lower()
        and (most is None or entry.parameters <= most)
    )
