"""Interleaved timing: machines are shared and drift, so only runs of one round are compared with each other."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Times:
    """Milliseconds of one thing in every round."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)

    def ratio_to(self, other: Times) -> Spread:
        return Spread.of([a / b for a, b in zip(self.milliseconds, other.milliseconds, strict=True)])


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float
    """Quartiles."""

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(things: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2) -> dict[str, Times]:
    """Runs each thing once a round, in turn."""
    for thing in things.values():
        for _ in range(warm_up):
            thing()
    found: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            started = time.perf_counter()
            thing()
            found[name].append(1000 * (time.perf_counter() - started))
    return {name: Times(tuple(times)) for name, times in found.items()}
