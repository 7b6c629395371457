"""A leaderboard as the table of a page: its columns, and the rows that a user wants to see, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """A column's heading: a link that sorts by it."""

    column: Column
    address: str
    direction: str | None
    """As ARIA has it, if the table is sorted by it."""


@dataclass(frozen=True)
class Table:
    """A leaderboard's rows as they are shown."""

    query: TableQuery
    headings: tuple[Heading, ...]
    rows: Sequence[EntryView]
    found: int
    """How many pass the filters."""
    blocks: tuple[str, ...]
    """All that the leaderboard has."""
    tied: frozenset[int]
    """Ranks that several entries share."""

    @property
    def hidden(self) -> int:
        return self.found - len(self.rows)


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


def table_of(leaderboard: LeaderboardView, query: TableQuery) -> Table:
    """The rows that pass the filters, in the order asked for; those without the value come last either way."""
    known = columns(leaderboard.bit_widths)
    key = query.sort.removeprefix("-")
    chosen = next((column for column in known if column.key == key), known[0])
    upwards = chosen.best_first == query.sort.startswith("-")
    found = [entry for entry in leaderboard.entries if _passes(entry, query)]
    having = [entry for entry in found if chosen.value(entry) is not None]
    having.sort(key=chosen.value, reverse=not upwards)  # type: ignore[arg-type]  # a column's values are alike
    ordered = having + [entry for entry in found if chosen.value(entry) is None]
    ranks = [entry.rank for entry in leaderboard.entries]
    return Table(
        query=query,
        headings=tuple(_heading(column, query, chosen, upwards=upwards) for column in known),
        rows=ordered[: query.rows],
        found=len(found),
        blocks=tuple(sorted({entry.block for entry in leaderboard.entries})),
        tied=frozenset(rank for rank, following in pairwise(ranks) if rank == following),
    )


def _heading(column: Column, query: TableQuery, chosen: Column, *, upwards: bool) -> Heading:
    if column != chosen:
        return Heading(column, query.address(sort=column.key), None)
    turned = column.key if query.sort.startswith("-") else f"-{column.key}"
    return Heading(column, query.address(sort=turned), "ascending" if upwards else "descending")


def _passes(entry: EntryView, query: TableQuery) -> bool:
    most = query.most_parameters
    return (
        (not query.block or entry.block in query.block)
        and query.name.lower() in entry.architecture.lower()
        and (most is None or entry.parameters <= most)
    )
