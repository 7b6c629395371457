"""Statistics over seeds, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.statistics import (
    kendall_tau,
    mean_interval,
    paired_difference,
    pooled_intervals,
    t_quantile,
    wilson_interval,
)

accuracies = st.floats(0, 100).map(lambda value: round(value, 2))
samples = st.lists(accuracies, min_size=2, max_size=8)


@settings(max_examples=50)
@given(samples)
def test_a_mean_has_scipys_t_interval(values: list[float]) -> None:
    found = mean_interval(values)

    error = scipy.stats.sem(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.half_width == pytest.approx(scipy.stats.t.ppf(0.975, len(values) - 1) * error, abs=1e-9)
    assert found.count == len(values)


@settings(max_examples=50)
@given(samples, samples)
def test_pooled_intervals_are_those_of_the_residual_variance(one: list[float], other: list[float]) -> None:
    found = pooled_intervals([one, other])

    degrees = len(one) + len(other) - 2
    variance = (np.var(one) * len(one) + np.var(other) * len(other)) / degrees
    reach = scipy.stats.t.ppf(0.975, degrees) * np.sqrt(variance)
    for interval, group in zip(found, (one, other), strict=True):
        assert interval.half_width == pytest.approx(reach / np.sqrt(len(group)), abs=1e-9)


def test_one_value_each_has_no_interval() -> None:
    assert [each.half_width for each in pooled_intervals([[1.0], [2.0]])] == [None, None]
    assert str(mean_interval([88.456])) == "88.46"


def test_a_group_of_one_borrows_the_others_variance() -> None:
    lone, _ = pooled_intervals([[1.0], [2.0, 4.0]])

    assert lone.half_width == pytest.approx(t_quantile(0.975, 1) * np.sqrt(2))


@settings(max_examples=50)
@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8))
def test_paired_differences_are_scipys_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    values, baseline = zip(*pairs, strict=True)

    found = paired_difference(values, baseline)

    differences = np.subtract(values, baseline)
    if np.ptp(differences) > 1e-6:
        interval = scipy.stats.ttest_rel(values, baseline).confidence_interval(0.95)
        assert (found.mean - (found.half_width or 0)) == pytest.approx(interval.low)
        assert (found.mean + (found.half_width or 0)) == pytest.approx(interval.high)


@settings(max_examples=100)
@given(st.data(), st.integers(1, 5000))
def test_a_share_has_scipys_wilson_interval(data: st.DataObject, count: int) -> None:
    right = data.draw(st.integers(0, count))

    expected = scipy.stats.binomtest(right, count).proportion_ci(0.95, method="wilson")

    assert wilson_interval(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


few = st.integers(0, 4).map(float)


@settings(max_examples=100)
@given(st.lists(st.tuples(few, few), min_size=2, max_size=8))
def test_kendalls_tau_is_scipys_with_ties(pairs: list[tuple[float, float]]) -> None:
    one, other = zip(*pairs, strict=True)

    expected = scipy.stats.kendalltau(one, other).statistic

    found = kendall_tau(one, other)
    assert (found is None) == bool(np.isnan(expected))
    if found is not None:
        assert found == pytest.approx(expected)
