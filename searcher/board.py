"""A leaderboard's standings as columns in memory: filtered, ranked, sorted and cut into pages.

Nulls are NaN in the columns. Of n standings a page takes a few passes over n numbers.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from qcore import InvalidInput
from qcore.ranking import AccuracyInterval, Comparison, RankInterval
from qcore.statistics import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from numpy.typing import NDArray

    from searcher.standings import Standing

SORT_KEYS = (
    "rank",
    "float_accuracy",
    "drop",
    "parameters",
    "macs",
    "bit_operations",
    "model_bytes",
    "seeds",
    "train_seconds",
)
"""What entries are sorted by: upwards, or downwards with a minus before it. ``rank`` has the best first."""
COLUMNS = ("architecture", "block", "accuracy", "squares", *SORT_KEYS[1:])
"""What a board has of each standing."""
MOST_COMPARED_ORDERS = 2000
"""Entries, the best ones, that the agreement of two orders is told of."""

MOST_LOOKED_THROUGH = 1000
"""Entries, the best ones, of which the best that is not provisional is looked for."""

_ASKED_AT_ONCE = 8
_MOST_FILTERED = 16
_values = attrgetter(*COLUMNS)
_LIMITS = {
    "max_parameters": "parameters",
    "max_model_bytes": "model_bytes",
    "max_bit_operations": "bit_operations",
}


@dataclass(frozen=True)
class Filters:
    """Which architectures are on a leaderboard; they are ranked among themselves."""

    block: str | None = None
    max_parameters: int | None = None
    max_model_bytes: int | None = None
    """This and bit operations at the bit widths that rank."""
    max_bit_operations: int | None = None


@dataclass(frozen=True)
class Position:
    """A place between entries that a page begins behind: what its last entry is sorted by."""

    sort: str
    value: float | None
    parameters: int
    architecture: str


@dataclass(frozen=True)
class Order:
    """How entries are sorted, and which of them a page has.

    Raises:
        InvalidInput: for a sort key that there is not, and a position of another order.
    """

    sort: str = "rank"
    """One of ``SORT_KEYS``, with a minus before it downwards. Entries without the value come last either way."""
    after: Position | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.key not in SORT_KEYS:
            raise InvalidInput(
                "sort", self.sort, "is not a sort key", f"use one of {', '.join(SORT_KEYS)}, or -KEY for the reverse"
            )
        if self.after is not None and self.after.sort != self.sort:
            raise InvalidInput(
                "cursor",
                self.after.sort,
                "is of a page in another order",
                f"leave it out, or sort by {self.after.sort}",
            )

    @property
    def key(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def is_downwards(self) -> bool:
        return self.sort.startswith("-")


class Board:
    """The standings of one leaderboard."""

    def __init__(
        self,
        names: NDArray[np.object_],
        columns: dict[str, NDArray[np.float64]],
        blocks: NDArray[np.object_],
        examples: int | None,
    ) -> None:
        """``examples`` is how many validation accuracies are shares of; None of a metric that is no share."""
        self._names, self._columns, self._blocks, self._examples = names, columns, blocks, examples
        self._firsts: dict[str, list[int]] = {}
        self._filtered: OrderedDict[tuple[Filters, Collection[str] | None], Board] = OrderedDict()

    @classmethod
    def of(cls, standings: Iterable[Standing], examples: int | None) -> Board:
        return cls.of_rows([_values(each) for each in standings], examples)

    @classmethod
    def of_rows(cls, rows: Collection[tuple[Any, ...]], examples: int | None) -> Board:
        """Of standings by their values, in the order of ``COLUMNS``."""
        names, blocks, *numbers = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
        columns = [np.array(values, np.float64) for values in numbers]  # None becomes NaN
        return cls(
            np.array(names, object), dict(zip(COLUMNS[2:], columns, strict=True)), np.array(blocks, object), examples
        )

    def __len__(self) -> int:
        return len(self._names)

    def filtered(self, filters: Filters, among: frozenset[str] | None = None) -> Board:
        """Those that a filter leaves, and of them those of some names, if names are given.

        The last few are remembered, with what was computed of them.
        """
        asked = (filters, among)
        found = self._filtered.pop(asked, None)
        if found is None:
            found = self._left_by(filters, among)
        if found is self:
            return self
        self._filtered[asked] = found
        if len(self._filtered) > _MOST_FILTERED:
            self._filtered.popitem(last=False)
        return found

    def updated(self, changed: Board) -> Board:
        """With standings that are new, or in place of those they have become of."""
        names = frozenset(changed._names)
        kept = self._only(np.fromiter((name not in names for name in self._names), bool, len(self)))
        columns = {name: np.concatenate([values, changed._columns[name]]) for name, values in kept._columns.items()}
        every_name, blocks = (
            np.concatenate([own, other])
            for own, other in ((kept._names, changed._names), (kept._blocks, changed._blocks))
        )
        return Board(every_name, columns, blocks, self._examples)

    def _left_by(self, filters: Filters, among: frozenset[str] | None) -> Board:
        kept = np.ones(len(self), bool)
        for limit, column in _LIMITS.items():
            if (most := getattr(filters, limit)) is not None:
                kept &= self._columns[column] <= most
        if filters.block is not None:
            kept &= self._blocks == filters.block
        if among is not None:
            kept &= np.fromiter((name in among for name in self._names), bool, len(self))
        return self if kept.all() else self._only(kept)

    def _only(self, kept: NDArray[np.bool_]) -> Board:
        columns = {name: values[kept] for name, values in self._columns.items()}
        return Board(self._names[kept], columns, self._blocks[kept], self._examples)

    def page(self, order: Order) -> tuple[list[int], Position | None]:
        """The standings of a page, by index, and where the next begins; None behind the last page."""
        keys = self._keys(order)
        candidates = np.arange(len(self))
        if order.after is not None:
            candidates = self._behind(keys, order.after)
        is_cut = order.limit is not None and len(candidates) > order.limit
        if order.limit is not None and is_cut:
            candidates = self._first(keys, candidates, order.limit)
        chosen = sorted(candidates.tolist(), key=lambda index: self._sorted_by(keys, index))
        return chosen, self._position(order, chosen[-1]) if is_cut else None

    def rank(self, index: int) -> tuple[int, RankInterval, AccuracyInterval | None]:
        """A standing's rank, the ranks it may have, and the interval of its accuracy.

        The rank is 1 + the number of standings that are better; equal accuracies share one, diverged ones are last.
        """
        accuracy, ranked = self._columns["accuracy"][index], len(self._ranked)
        if math.isnan(accuracy):
            return ranked + 1, RankInterval(ranked + 1, len(self)), None
        better = ranked - int(np.searchsorted(self._ranked, accuracy, side="right"))
        mean, seeds = float(accuracy), int(self._columns["seeds"][index])
        return 1 + better, self._comparison.ranks(mean, seeds), self._comparison.interval(mean, seeds)

    def name(self, index: int) -> str:
        return str(self._names[index])

    def value(self, index: int, column: str) -> float | None:
        value = float(self._columns[column][index])
        return None if math.isnan(value) else value

    def best(self, column: str, are_provisional: Callable[[list[str]], Collection[str]] = lambda _: ()) -> list[str]:
        """Names of those with the most of ``accuracy`` or ``float_accuracy``; several if they tie.

        Without those that are provisional, which is asked of a few names at a time. None, where all of the
        ``MOST_LOOKED_THROUGH`` best are.
        """
        values, first = self._columns[column], self._first_by(column)
        found: dict[str, float] = {}
        for start in range(0, len(first), _ASKED_AT_ONCE):
            some = {self.name(index): float(values[index]) for index in first[start : start + _ASKED_AT_ONCE]}
            if found and max(some.values()) < max(found.values()):
                break
            provisional = are_provisional(list(some))
            found |= {name: value for name, value in some.items() if name not in provisional}
        return sorted(name for name, value in found.items() if value == max(found.values()))

    def _first_by(self, column: str) -> list[int]:
        """The best by a column, the greatest first."""
        if column not in self._firsts:
            values = self._columns[column]
            known = np.flatnonzero(~np.isnan(values))
            if len(known) > MOST_LOOKED_THROUGH:
                known = known[np.argpartition(-values[known], MOST_LOOKED_THROUGH)[:MOST_LOOKED_THROUGH]]
            self._firsts[column] = known[np.argsort(-values[known], kind="stable")].tolist()
        return self._firsts[column]

    @cached_property
    def order_agreement(self) -> float | None:
        """Kendall's tau between the float order and the ranking order, by validation accuracy.

        Of entries that have both accuracies, of the ``MOST_COMPARED_ORDERS`` best at most; None of fewer than two, or
        where all are equal.
        """
        of_float, ranking = self._columns["float_accuracy"], self._columns["accuracy"]
        both = np.flatnonzero(~np.isnan(of_float) & ~np.isnan(ranking))
        best = both[np.argsort(-ranking[both], kind="stable")[:MOST_COMPARED_ORDERS]]
        return kendall_tau(of_float[best].tolist(), ranking[best].tolist())

    @cached_property
    def _ranked(self) -> NDArray[np.float64]:
        """Accuracies of those that did not diverge, upwards."""
        accuracy = self._columns["accuracy"]
        return np.sort(accuracy[~np.isnan(accuracy)])

    @cached_property
    def _comparison(self) -> Comparison:
        columns = {name: values[~np.isnan(self._columns["accuracy"])] for name, values in self._columns.items()}
        seeds = columns["seeds"].astype(np.int64)
        degrees = int(seeds.sum()) - len(seeds)
        deviation = math.sqrt(math.fsum(columns["squares"]) / degrees) if degrees else 0.0
        return Comparison(columns["accuracy"], seeds, deviation, self._examples)

    def _keys(self, order: Order) -> NDArray[np.float64]:
        """What entries are sorted by, upwards; infinite where they have none."""
        values = -self._columns["accuracy"] if order.key == "rank" else self._columns[order.key]
        values = -values if order.is_downwards else values
        return np.where(np.isnan(values), np.inf, values)

    def _sorted_by(self, keys: NDArray[np.float64], index: int) -> tuple[float, float, str]:
        """Of equal ones whatever is smaller is first."""
        return keys[index], self._columns["parameters"][index], self._names[index]

    def _first(self, keys: NDArray[np.float64], candidates: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """Those of some candidates that are sorted before the others, in any order: sorting all takes far longer."""
        chosen: list[NDArray[np.intp]] = []
        for values in (keys, self._columns["parameters"]):
            own = values[candidates]
            last = np.partition(own, count - 1)[count - 1]
            chosen.append(candidates[own < last])
            count -= len(chosen[-1])
            candidates = candidates[own == last]
        chosen.append(candidates[np.argsort(self._names[candidates], kind="stable")[:count]])
        return np.concatenate(chosen)

    def _behind(self, keys: NDArray[np.float64], after: Position) -> NDArray[np.intp]:
        """Those that are sorted behind a position."""
        value = math.inf if after.value is None else after.value
        found, tied = [np.flatnonzero(keys > value)], np.flatnonzero(keys == value)
        parameters = self._columns["parameters"][tied]
        found.append(tied[parameters > after.parameters])
        tied = tied[parameters == after.parameters]
        found.append(tied[self._names[tied] > after.architecture])
        return np.concatenate(found)

    def _position(self, order: Order, index: int) -> Position:
        value = float(self._keys(order)[index])
        shown = None if math.isinf(value) else value
        return Position(order.sort, shown, int(self._columns["parameters"][index]), self.name(index))
