"""Intervals, possible ranks and who needs another seed: against scipy, rankings by definition, and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qcore.ranking import RankInterval, accuracy_intervals, rank_intervals, undecided
from qcore.statistics import pooled_intervals

EXAMPLES = 500
ALPHA = 0.05

Groups = Sequence[Sequence[float]]

accuracies = st.integers(0, EXAMPLES).map(lambda right: 100 * right / EXAMPLES)
close_accuracies = st.integers(430, 470).map(lambda right: 100 * right / EXAMPLES)
repeated = st.lists(close_accuracies, min_size=2, max_size=4)
single = st.lists(accuracies, min_size=1, max_size=1)


def test_a_mean_has_the_t_interval_of_the_pooled_variance() -> None:
    groups = [[90.0, 91.0, 92.5], [80.0, 82.0], [85.0]]

    found = accuracy_intervals(groups, EXAMPLES)

    for interval, expected in zip(found, pooled_intervals(groups), strict=True):
        assert interval is not None
        assert expected.half_width is not None
        assert interval.kind == "t"
        assert interval.low == pytest.approx(expected.mean - expected.half_width)
        assert interval.high == pytest.approx(expected.mean + expected.half_width)
    assert accuracy_intervals(groups, None) == found


def test_one_seed_each_has_the_binomial_interval_of_the_examples() -> None:
    found = accuracy_intervals([[98.4], [50.0]], EXAMPLES)

    for interval, right in zip(found, (492, 250), strict=True):
        expected = scipy.stats.binomtest(right, EXAMPLES).proportion_ci(0.95, method="wilson")
        assert interval is not None
        assert interval.kind == "binomial"
        assert (interval.low, interval.high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_one_seed_each_without_examples_says_nothing() -> None:
    groups = [[70.0], [30.0], [50.0]]

    assert accuracy_intervals(groups, None) == (None, None, None)
    assert rank_intervals(groups, None) == (RankInterval(1, 3),) * 3


def test_intervals_end_at_0_and_100_percent() -> None:
    found = accuracy_intervals([[99.0, 100.0], [0.0, 1.0]], EXAMPLES)

    assert [(each.low == 0.0, each.high == 100.0) for each in found if each] == [(False, True), (True, False)]


def test_seeds_that_agree_by_chance_still_leave_the_rounding_to_whole_examples() -> None:
    interval, _ = accuracy_intervals([[90.0, 90.0], [80.0, 80.0]], EXAMPLES)

    assert interval is not None
    one_example = 100 / EXAMPLES
    reach = scipy.stats.t.ppf(0.975, 2) * one_example / np.sqrt(12) / np.sqrt(2)
    assert interval.high - 90.0 == pytest.approx(reach)


@settings(max_examples=200)
@given(repeated, repeated)
def test_of_two_candidates_one_is_clearly_better_where_scipys_t_test_says_so(
    one: list[float], other: list[float]
) -> None:
    degrees = len(one) + len(other) - 2
    variance = (np.var(one) * len(one) + np.var(other) * len(other)) / degrees
    assume(variance > (100 / EXAMPLES) ** 2 / 12)
    described = [figure for each in (one, other) for figure in (np.mean(each), np.std(each, ddof=1), len(each))]
    is_clear = scipy.stats.ttest_ind_from_stats(*described, equal_var=True).pvalue < ALPHA

    found = rank_intervals([one, other], EXAMPLES)

    better_first = [RankInterval(1, 1), RankInterval(2, 2)]
    expected = better_first if np.mean(one) > np.mean(other) else better_first[::-1]
    assert list(found) == (expected if is_clear else [RankInterval(1, 2)] * 2)


@settings(max_examples=200)
@given(accuracies, accuracies)
def test_of_two_single_seeds_one_is_clearly_better_where_scipys_chi_squared_test_says_so(
    one: float, other: float
) -> None:
    is_clear = _share_p_value(one, other) < ALPHA

    first, second = rank_intervals([[one], [other]], EXAMPLES)

    assert (first != second) == is_clear
    assert not is_clear or (first.lowest < second.lowest) == (one > other)


def _share_p_value(one: float, other: float) -> float:
    right = [round(each * EXAMPLES / 100) for each in (one, other)]
    if sum(right) in (0, 2 * EXAMPLES):  # no test is defined, and there is nothing to tell apart
        return 1.0
    table = [[count, EXAMPLES - count] for count in right]
    return float(scipy.stats.chi2_contingency(table, correction=False).pvalue)


def _p_values(groups: Groups) -> dict[tuple[int, int], float]:
    degrees = sum(len(group) - 1 for group in groups)
    if not degrees:
        return {(i, j): _share_p_value(groups[i][0], groups[j][0]) for i, j in combinations(range(len(groups)), 2)}
    variance = sum(np.var(group) * len(group) for group in groups) / degrees
    variance = max(variance, (100 / EXAMPLES) ** 2 / 12)
    found = {}
    for i, j in combinations(range(len(groups)), 2):
        error = np.sqrt(variance * (1 / len(groups[i]) + 1 / len(groups[j])))
        found[i, j] = float(2 * scipy.stats.t.sf(abs(np.mean(groups[i]) - np.mean(groups[j])) / error, degrees))
    return found


def _clear_pairs(groups: Groups) -> set[tuple[int, int]]:
    """(better, worse) by Holm's procedure as he states it: one pair after the other, smallest p value first."""
    p_values = _p_values(groups)
    clear = set()
    for step, (pair, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p_value >= ALPHA / (len(p_values) - step):
            break
        clear.add(pair if np.mean(groups[pair[0]]) > np.mean(groups[pair[1]]) else pair[::-1])
    return clear


boards = st.lists(st.lists(accuracies | close_accuracies, min_size=1, max_size=3), min_size=1, max_size=9) | st.lists(
    single, min_size=1, max_size=9
)


@settings(max_examples=200, deadline=None)
@given(boards)
def test_ranks_are_those_that_clearly_better_and_worse_candidates_leave(groups: list[list[float]]) -> None:
    clear = _clear_pairs(groups)

    found = rank_intervals(groups, EXAMPLES)

    assert [each.lowest for each in found] == [
        1 + sum(worse == index for _, worse in clear) for index in range(len(groups))
    ]
    assert [each.highest for each in found] == [
        len(groups) - sum(better == index for better, _ in clear) for index in range(len(groups))
    ]


def _covered(groups: Groups, truth: Sequence[float]) -> tuple[bool, list[bool]]:
    """Whether all true ranks lie within the ranks that are found, and which true accuracies within their intervals."""
    ranks = [1 + sum(other > each for other in truth) for each in truth]
    found = rank_intervals(groups, EXAMPLES)
    intervals = accuracy_intervals(groups, EXAMPLES)
    return (
        all(each.lowest <= rank <= each.highest for each, rank in zip(found, ranks, strict=True)),
        [bool(each and each.low <= mean <= each.high) for each, mean in zip(intervals, truth, strict=True)],
    )


@pytest.mark.parametrize("spacing", [1e-6, 0.3, 1.5])
def test_true_ranks_and_means_lie_within_the_intervals_at_the_stated_rate(spacing: float) -> None:
    random = np.random.default_rng(5)
    truth = [85 + spacing * place for place in range(8)]
    seeds = [2, 3] * 4
    simulated = [
        _covered([random.normal(mean, 0.6, count).tolist() for mean, count in zip(truth, seeds, strict=True)], truth)
        for _ in range(600)
    ]

    ranks, means = zip(*simulated, strict=True)
    assert np.mean(ranks) >= 0.945
    assert np.mean(means) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("spacing", [1e-6, 0.5, 2.0])
def test_true_ranks_and_accuracies_of_single_seeds_lie_within_the_intervals_too(spacing: float) -> None:
    random = np.random.default_rng(6)
    truth = [84 + spacing * place for place in range(8)]
    simulated = [
        _covered([[100 * random.binomial(EXAMPLES, mean / 100) / EXAMPLES] for mean in truth], truth)
        for _ in range(600)
    ]

    ranks, accuracies = zip(*simulated, strict=True)
    assert np.mean(ranks) >= 0.945
    assert np.mean(accuracies) == pytest.approx(0.95, abs=0.015)


def test_candidates_that_are_far_apart_have_one_rank_each() -> None:
    groups = [[90.0, 90.4], [95.0, 95.2], [80.0, 80.4], [85.0]]

    assert rank_intervals(groups, EXAMPLES) == tuple(RankInterval(rank, rank) for rank in (2, 1, 4, 3))


APART = {"a": [95.0, 95.4], "b": [90.0, 90.4], "c": [85.0, 85.2], "d": [84.8, 85.2]}


def test_nobody_needs_a_seed_once_the_best_are_told_apart() -> None:
    assert undecided(APART, 1, 0.0, EXAMPLES) == []
    assert undecided(APART, 2, 0.0, EXAMPLES) == []


def test_candidates_that_a_place_at_the_top_hangs_on_need_one() -> None:
    assert undecided(APART, 3, 0.0, EXAMPLES) == ["c", "d"]
    assert undecided({**APART, "e": [95.6, 94.8]}, 1, 0.0, EXAMPLES) == ["a", "e"]


def test_a_difference_within_the_margin_needs_no_seed() -> None:
    groups = {"a": [90.0, 90.1, 90.2], "b": [90.1, 90.1, 90.2], "c": [80.0, 80.1, 80.2]}

    assert undecided(groups, 1, 0.0, EXAMPLES) == ["b", "a"]
    assert undecided(groups, 1, 0.05, EXAMPLES) == ["b", "a"]
    assert undecided(groups, 1, 1.0, EXAMPLES) == []


def test_those_with_the_fewest_seeds_come_first_and_of_them_the_better_ones() -> None:
    groups = {"a": [90.0, 91.0], "b": [89.0], "c": [90.2, 90.9], "d": [89.5], "e": [10.0]}

    assert undecided(groups, 1, 0.1, EXAMPLES) == ["d", "b", "c", "a"]


def test_with_one_seed_each_the_best_and_their_follower_need_another_whatever_the_examples_say() -> None:
    groups = {"a": [50.0], "b": [95.0], "c": [80.0], "d": [79.0]}

    assert undecided(groups, 1, 0.0, EXAMPLES) == ["b", "c"]
    assert undecided(groups, 2, 50.0, EXAMPLES) == ["b", "c", "d"]
    assert undecided(groups, 1, 0.0, None) == ["b", "c", "d", "a"]


@pytest.mark.parametrize("groups", [{}, {"a": [90.0]}, {"a": [90.0, 91.0]}])
def test_without_two_candidates_there_is_nothing_to_decide(groups: dict[str, list[float]]) -> None:
    assert undecided(groups, 3, 0.0, EXAMPLES) == []


@settings(max_examples=200, deadline=None)
@given(boards.filter(lambda groups: len(groups) > 1), st.integers(1, 10))
def test_without_a_margin_all_is_decided_where_the_best_have_one_rank_each(groups: list[list[float]], top: int) -> None:
    assume(any(len(group) > 1 for group in groups))

    needed = undecided({str(index): group for index, group in enumerate(groups)}, top, 0.0, EXAMPLES)

    best = sorted(zip(groups, rank_intervals(groups, EXAMPLES), strict=True), key=lambda each: -np.mean(each[0]))[:top]
    assert (needed == []) == all(ranks.lowest == ranks.highest for _, ranks in best)
