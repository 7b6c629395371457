"""Statistics over seeds: means with Student's t intervals, paired differences, rank correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and the half width of its two-sided 95 % interval: mean - half_width to mean + half_width."""

    mean: float
    half_width: float | None
    """None where there are too few values to say."""
    count: int
    """Values that the mean is of."""

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.half_width is None else f"{self.mean:.2f} ± {self.half_width:.2f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of a sample and its t interval, with n - 1 degrees of freedom.

    >>> str(mean_interval([1.0, 2.0, 3.0]))
    '2.00 ± 2.48'
    """
    return pooled_intervals([values])[0]


def pooled_intervals(groups: Sequence[Sequence[float]]) -> tuple[Interval, ...]:
    """Every group's mean and t interval, with one variance pooled over all groups.

    Few seeds say little of a group's own variance; of groups that vary alike, together they say more. The degrees of
    freedom are the values of all groups less the number of groups.

    >>> [str(each) for each in pooled_intervals([[1.0, 3.0], [10.0, 12.0]])]
    ['2.00 ± 4.30', '11.00 ± 4.30']
    """
    assert all(groups), "a group without values has no mean"
    means = [math.fsum(group) / len(group) for group in groups]
    degrees = sum(len(group) - 1 for group in groups)
    if degrees == 0:
        return tuple(Interval(mean, None, len(group)) for mean, group in zip(means, groups, strict=True))
    squares = math.fsum((value - mean) ** 2 for mean, group in zip(means, groups, strict=True) for value in group)
    deviation = math.sqrt(squares / degrees)
    reach = t_quantile(0.5 + CONFIDENCE / 2, degrees) * deviation
    return tuple(
        Interval(mean, reach / math.sqrt(len(group)), len(group)) for mean, group in zip(means, groups, strict=True)
    )


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The mean of ``values[i] - baseline[i]`` and its t interval: two treatments of the same seeds.

    >>> str(paired_difference([3.0, 4.0, 6.0], [1.0, 3.0, 3.0]))
    '2.00 ± 2.48'
    """
    return mean_interval([value - base for value, base in zip(values, baseline, strict=True)])


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b: 1 for equal orders, -1 for opposite ones; None where one of them ties all values.

    >>> kendall_tau([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.3333333333333333
    """
    concordant = one_untied = other_untied = 0
    pairs = list(zip(one, other, strict=True))
    for (a, b), (c, d) in combinations(pairs, 2):
        first, second = (a > c) - (a < c), (b > d) - (b < d)
        concordant += first * second
        one_untied += first != 0
        other_untied += second != 0
    if not one_untied or not other_untied:
        return None
    return concordant / math.sqrt(one_untied * other_untied)


def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t, with so many degrees of freedom, stays below with that probability.

    >>> round(t_quantile(0.975, 2), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
