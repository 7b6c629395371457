"""Ranking candidates by their seeds' accuracies: intervals, the ranks each may have, and who needs another seed.

Accuracies are percent, one a seed, all measured on the same examples. Single seeds are taken to vary alike for all
candidates: two or three say too little of a candidate's own variance, so one variance is pooled over all. Where no
candidate has two seeds, nothing is known of how seeds differ, and what is left is how far the examples go: binomial
intervals, of accuracies as shares of independent examples.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Literal

from qcore.statistics import CONFIDENCE, pooled_deviation, t_quantile, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


def accuracy_intervals(groups: Sequence[Sequence[float]], examples: int | None) -> tuple[AccuracyInterval | None, ...]:
    """Every candidate's 95 % interval, each for itself; None where there is only one seed each and no ``examples``.

    ``examples`` is how many the accuracies were measured on, or None where they are no shares of examples (mIOU).
    A candidate with one seed has the others' variance, where one of them has two.
    """
    noise = _Noise.of(groups, examples)
    if noise.kind is None:
        return (None,) * len(groups)
    critical = noise.critical(comparisons=1)
    intervals = []
    for group in groups:
        low, high = noise.interval(fmean(group), len(group), critical)
        intervals.append(AccuracyInterval(max(0.0, low), min(100.0, high), noise.kind))
    return tuple(intervals)


def rank_intervals(groups: Sequence[Sequence[float]], examples: int | None) -> tuple[RankInterval, ...]:
    """The ranks that every candidate may have, all of them right at once with 95 % confidence.

    Candidates are compared in pairs, and one is clearly better where the difference's interval excludes 0: by Student's
    t with the pooled variance, or, with one seed each, by the score test of two shares (Pearson's chi-squared). The
    latter is careful: examples that are hard for one network are hard for the other. As a leaderboard is read at its
    top, wherever chance put that, no pair may be wrong: Holm's correction (1979, "A simple sequentially rejective
    multiple test procedure", Scand. J. Statist. 6) over all pairs.

    >>> rank_intervals([[90.1, 90.2], [90.2, 90.3], [70.0, 70.1]], examples=1000)[1]
    RankInterval(lowest=1, highest=2)
    """
    worse, better, _ = _compare(groups, _Noise.of(groups, examples))
    return tuple(RankInterval(1 + above, len(groups) - below) for below, above in zip(worse, better, strict=True))


def undecided(groups: Mapping[str, Sequence[float]], top: int, margin: float, examples: int | None) -> list[str]:
    """The candidates that need another seed to tell the best ``top`` from each other and from the rest.

    A pair needs none where one is clearly better (as in ``rank_intervals``), or where the interval of their difference,
    corrected alike, lies within ``margin`` percentage points. Those with the fewest seeds come first, of them the
    better ones: another seed of these says most. While no candidate has two seeds, the best ``top`` + 1 need one
    whatever the examples say. ``groups`` leaves out candidates that diverged; a single one is never undecided.
    """
    if len(groups) < 2:
        return []
    noise = _Noise.of(list(groups.values()), examples)
    _, _, critical = _compare(list(groups.values()), noise)
    means = {name: fmean(group) for name, group in groups.items()}
    order = sorted(groups, key=means.__getitem__, reverse=True)
    found = set() if noise.degrees else set(order[: top + 1])
    for place, name in enumerate(order[:top]):
        for other in order[place + 1 :]:
            low, high = noise.alike(means[name], len(groups[name]), len(groups[other]), critical)
            is_clear = means[other] < low
            is_tie = noise.kind == "t" and high - means[other] <= margin
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
    def of(cls, groups: Sequence[Sequence[float]], examples: int | None) -> _Noise:
        deviation, degrees = pooled_deviation(groups)
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
            low, high = wilson_interval(mean / 100, self.examples, critical)
            return 100 * low, 100 * high
        reach = critical * self.deviation / math.sqrt(seeds)
        return mean - reach, mean + reach

    def alike(self, mean: float, seeds: int, other_seeds: int, critical: float) -> tuple[float, float]:
        """Where another mean, of so many seeds, is neither clearly worse (below) nor clearly better (above)."""
        if self.kind == "binomial":
            assert self.examples
            # Where the score test of two shares just rejects, their mean is at a Wilson limit of twice the examples.
            low, high = (2 * 100 * end - mean for end in wilson_interval(mean / 100, 2 * self.examples, critical))
            return low, high
        reach = critical * self.deviation * math.sqrt(1 / seeds + 1 / other_seeds)
        return mean - reach, mean + reach


def _compare(groups: Sequence[Sequence[float]], noise: _Noise) -> tuple[list[int], list[int], float]:
    """For every candidate how many are clearly worse and how many clearly better, and Holm's last critical value."""
    means = [fmean(group) for group in groups]
    by_seeds: dict[int, list[float]] = {}
    for mean, group in sorted(zip(means, groups, strict=True), key=lambda pair: pair[0]):
        by_seeds.setdefault(len(group), []).append(mean)
    clear = 0
    while True:
        # Holm's steps, many at a time: whatever is clear makes the rest fewer, until no more becomes clear.
        critical = noise.critical(max(1, math.comb(len(groups), 2) - clear))
        worse, better = [0] * len(groups), [0] * len(groups)
        for index, (mean, group) in enumerate(zip(means, groups, strict=True)):
            for seeds, others in by_seeds.items():
                low, high = noise.alike(mean, len(group), seeds, critical)
                worse[index] += bisect_left(others, low)
                better[index] += len(others) - bisect_right(others, high)
        if sum(worse) == clear:
            return worse, better, critical
        clear = sum(worse)
