"""Statistics over seeds: means with Student's t intervals, paired differences, shares, rank correlation."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

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
    deviation, degrees = pooled_deviation(groups)
    if degrees == 0:
        return tuple(Interval(mean, None, len(group)) for mean, group in zip(means, groups, strict=True))
    reach = t_quantile(0.5 + CONFIDENCE / 2, degrees) * deviation
    return tuple(
        Interval(mean, reach / math.sqrt(len(group)), len(group)) for mean, group in zip(means, groups, strict=True)
    )


def pooled_deviation(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """The standard deviation of single values about their group's mean, and its degrees of freedom.

    It is 0 where there are no degrees of freedom.

    >>> pooled_deviation([[1.0, 3.0], [10.0, 12.0], [20.0]])
    (1.4142135623730951, 2)
    """
    repeated = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    means = [math.fsum(group) / len(group) for group in repeated]
    squares = math.fsum((value - mean) ** 2 for mean, group in zip(means, repeated, strict=True) for value in group)
    return math.sqrt(squares / degrees) if degrees else 0.0, degrees


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The mean of ``values[i] - baseline[i]`` and its t interval: two treatments of the same seeds.

    >>> str(paired_difference([3.0, 4.0, 6.0], [1.0, 3.0, 3.0]))
    '2.00 ± 2.48'
    """
    return mean_interval([value - base for value, base in zip(values, baseline, strict=True)])


def wilson_interval(share: float, count: int, quantile: float | None = None) -> tuple[float, float]:
    """The interval of a probability, 0 to 1, that a share of so many independent trials was an estimate of.

    It is Wilson's (1927, "Probable inference, the law of succession, and statistical inference", JASA 22): it holds its
    confidence near 0 and 1 too. ``quantile`` is the standard normal's at the upper end, for 95 % if not given.

    >>> [round(end, 3) for end in wilson_interval(0.9, 100)]
    [0.826, 0.945]
    """
    low, high = wilson_intervals(np.array([share]), count, quantile)
    return float(low[0]), float(high[0])


def wilson_intervals(
    shares: NDArray[np.float64], count: int, quantile: float | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``wilson_interval`` of many shares at once, each of so many trials."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) if quantile is None else quantile
    scale = 1 + z * z / count
    middle = (shares + z * z / (2 * count)) / scale
    reach = z * np.sqrt(shares * (1 - shares) / count + (z / (2 * count)) ** 2) / scale
    # At 0 and 1 they are equal but for rounding.
    return np.minimum(middle - reach, shares), np.maximum(middle + reach, shares)


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b: 1 for equal orders, -1 for opposite ones; None where one of them ties all values.

    >>> kendall_tau([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.3333333333333333
    """
    pairs = sorted(zip(one, other, strict=True))
    before: list[float] = []
    discordant = 0
    for _, value in pairs:  # those before it in the first order and above it in the second
        discordant += len(before) - bisect_right(before, value)
        insort(before, value)
    total = math.comb(len(pairs), 2)
    one_untied, other_untied = total - _ties(one), total - _ties(other)
    if not one_untied or not other_untied:
        return None
    untied_in_both = one_untied + other_untied - total + _ties(pairs)
    return (untied_in_both - 2 * discordant) / math.sqrt(one_untied * other_untied)


def _ties(values: Iterable[object]) -> int:
    """Pairs of equal values."""
    return sum(math.comb(count, 2) for count in Counter(values).values())


def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t, with so many degrees of freedom, stays below with that probability.

    >>> round(t_quantile(0.975, 2), 3)
    4.303
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
