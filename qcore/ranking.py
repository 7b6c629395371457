"""Ranking candidates by their seeds' accuracies: intervals, the ranks each may have, and who needs another seed.

Accuracies are percent, one a seed, all measured on the same examples. Single seeds are taken to vary alike for all
candidates: two or three say too little of a candidate's own variance, so one variance is pooled over all. Where no
candidate has two seeds, nothing is known of how seeds differ, and what is left is how far the examples go: binomial
intervals, of accuracies as shares of independent examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Literal

import numpy as np

from qcore.statistics import CONFIDENCE, pooled_deviation, t_quantile, wilson_intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]

MOST_FOR_HOLM = 10_000
"""Candidates of which all pairs are gone through; of more, Bonferroni's correction is hardly wider."""


@dataclass(frozen=True)
class AccuracyInterval:
    """Where a candidate's accuracy lies with 95 % confidence, in percent."""

    low: float
    high: float
    kind: Literal["t", "binomial"]
    """t: where the mean over all seeds lies, on these examples. binomial: where this one seed's network would lie on
    all examples of the kind; how seeds differ is unknown."""


@dataclass(frozen=True)
class RankInterval:
    """The ranks a candidate may have."""

    lowest: int
    """1 + the number of candidates that are clearly better."""
    highest: int
    """The number of candidates less those that are clearly worse."""


class Comparison:
    """Candidates compared in pairs, by their means over seeds: intervals, and the ranks each may have.

    Ranks are right all at once with 95 % confidence. One candidate is clearly better where the difference's interval
    excludes 0: by Student's t with the pooled variance, or, with one seed each, by the score test of two shares
    (Pearson's chi-squared). The latter is careful: examples that are hard for one network are hard for the other. As a
    leaderboard is read at its top, wherever chance put that, no pair may be wrong: Holm's correction (1979, "A simple
    sequentially rejective multiple test procedure", Scand. J. Statist. 6) over all pairs, or Bonferroni's, its first
    step, of more than ``MOST_FOR_HOLM`` candidates.
    """

    def __init__(self, means: Floats, seeds: Whole, deviation: float, examples: int | None) -> None:
        """Shapes (candidates,): mean accuracies in percent, and how many seeds each is the mean of.

        ``deviation`` is the pooled standard deviation of one seed; it is not used where no candidate has two seeds.
        ``examples`` is how many the accuracies were measured on, or None where they are no shares of examples (mIOU).
        """
        self.noise = _Noise.of(deviation, int(seeds.sum()) - len(seeds), examples)
        self._size = len(means)
        self._by_seeds = {int(count): np.sort(means[seeds == count]) for count in np.unique(seeds)}
        self._narrow = self.noise.critical(comparisons=1)
        self.critical = self._corrected()
        """How many standard errors are clear in each pair."""

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]], examples: int | None) -> Comparison:
        """Of every candidate's accuracies, one a seed."""
        means = np.array([fmean(group) for group in groups])
        return cls(means, np.array([len(group) for group in groups], int), pooled_deviation(groups)[0], examples)

    def interval(self, mean: float, seeds: int) -> AccuracyInterval | None:
        """One candidate's 95 % interval, for itself; None where nothing is known."""
        if self.noise.kind is None:
            return None
        low, high = self.noise.interval(mean, seeds, self._narrow)
        return AccuracyInterval(max(0.0, low), min(100.0, high), self.noise.kind)

    def ranks(self, mean: float, seeds: int) -> RankInterval:
        """Those that one of the candidates, told by its mean and number of seeds, may have."""
        worse, better = self._clear(np.array([mean]), seeds, self.critical)
        return RankInterval(1 + int(better[0]), self._size - int(worse[0]))

    def _corrected(self) -> float:
        pairs, clear = math.comb(self._size, 2), 0
        while True:
            # Holm's steps, many at a time: whatever is clear makes the rest fewer, until no more becomes clear.
            critical = self.noise.critical(max(1, pairs - clear))
            if self._size > MOST_FOR_HOLM:
                return critical
            found = sum(int(self._clear(means, seeds, critical)[0].sum()) for seeds, means in self._by_seeds.items())
            if found == clear:
                return critical
            clear = found

    def _clear(self, means: Floats, seeds: int, critical: float) -> tuple[Whole, Whole]:
        """For each of some means, all of so many seeds, how many are clearly worse and how many clearly better."""
        worse, better = np.zeros(len(means), np.int64), np.zeros(len(means), np.int64)
        for other_seeds, others in self._by_seeds.items():
            low, high = self.noise.alike(means, seeds, other_seeds, critical)
            worse += np.searchsorted(others, low, side="left")
            better += len(others) - np.searchsorted(others, high, side="right")
        return worse, better


def accuracy_intervals(groups: Sequence[Sequence[float]], examples: int | None) -> tuple[AccuracyInterval | None, ...]:
    """Every candidate's 95 % interval, each for itself; None where there is only one seed each and no ``examples``.

    ``examples`` is how many the accuracies were measured on, or None where they are no shares of examples (mIOU).
    A candidate with one seed has the others' variance, where one of them has two.
    """
    comparison = Comparison.of(groups, examples)
    return tuple(comparison.interval(fmean(group), len(group)) for group in groups)


def rank_intervals(groups: Sequence[Sequence[float]], examples: int | None) -> tuple[RankInterval, ...]:
    """The ranks that every candidate may have, all of them right at once with 95 % confidence: ``Comparison``'s.

    >>> rank_intervals([[90.1, 90.2], [90.2, 90.3], [70.0, 70.1]], examples=1000)[1]
    RankInterval(lowest=1, highest=2)
    """
    comparison = Comparison.of(groups, examples)
    return tuple(comparison.ranks(fmean(group), len(group)) for group in groups)


def undecided(groups: Mapping[str, Sequence[float]], top: int, margin: float, examples: int | None) -> list[str]:
    """The candidates that need another seed to tell the best ``top`` from each other and from the rest.

    A pair needs none where one is clearly better (as in ``rank_intervals``), or where the interval of their difference,
    corrected alike, lies within ``margin`` percentage points. Those with the fewest seeds come first, of them the
    better ones: another seed of these says most. While no candidate has two seeds, the best ``top`` + 1 need one
    whatever the examples say. ``groups`` leaves out candidates that diverged; a single one is never undecided.
    """
    if len(groups) < 2:
        return []
    comparison = Comparison.of(list(groups.values()), examples)
    noise = comparison.noise
    means = {name: fmean(group) for name, group in groups.items()}
    order = sorted(groups, key=means.__getitem__, reverse=True)
    found = set() if noise.degrees else set(order[: top + 1])
    for place, name in enumerate(order[:top]):
        for other in order[place + 1 :]:
            own = np.array([means[name]])
            low, high = noise.alike(own, len(groups[name]), len(groups[other]), comparison.critical)
            is_clear = means[other] < low[0]
            is_tie = noise.kind == "t" and high[0] - means[other] <= margin
            if not is_clear and not is_tie:
                found |= {name, other}
    return sorted((name for name in order if name in found), key=lambda name: len(groups[name]))


@dataclass(frozen=True)
class _Noise:
    """What makes accuracies differ that have no reason to."""

    deviation: float
    """The standard deviation of one seed's accuracy in percentage points; infinite where it is unknown."""
    degrees: int
    """Its degrees of freedom; 0 where it is unknown."""
    examples: int | None

    @classmethod
    def of(cls, deviation: float, degrees: int, examples: int | None) -> _Noise:
        if degrees == 0:
            return cls(math.inf, 0, examples)
        # Two seeds can agree to the example by chance: they are not taken to differ by less than rounding to one does.
        rounding = 100 / examples / math.sqrt(12) if examples else 0.0
        return cls(max(deviation, rounding), degrees, examples)

    @property
    def kind(self) -> Literal["t", "binomial"] | None:
        if self.degrees:
            return "t"
        return "binomial" if self.examples else None

    def critical(self, comparisons: int) -> float:
        """How many standard errors are clear in each of so many two-sided comparisons."""
        tail = (1 - CONFIDENCE) / 2 / comparisons
        return -t_quantile(tail, self.degrees) if self.degrees else -NormalDist().inv_cdf(tail)

    def interval(self, mean: float, seeds: int, critical: float) -> tuple[float, float]:
        """Of one mean."""
        if self.kind == "binomial":
            assert self.examples
            low, high = wilson_intervals(np.array([mean / 100]), self.examples, critical)
            return 100 * float(low[0]), 100 * float(high[0])
        reach = critical * self.deviation / math.sqrt(seeds)
        return mean - reach, mean + reach

    def alike(self, means: Floats, seeds: int, other_seeds: int, critical: float) -> tuple[Floats, Floats]:
        """Where another mean, of so many seeds, is neither clearly worse (below) nor clearly better (above)."""
        if self.kind == "binomial":
            assert self.examples
            # Where the score test of two shares just rejects, their mean is at a Wilson limit of twice the examples.
            low, high = wilson_intervals(means / 100, 2 * self.examples, critical)
            return 200 * low - means, 200 * high - means
        reach = critical * self.deviation * math.sqrt(1 / seeds + 1 / other_seeds)
        return means - reach, means + reach
