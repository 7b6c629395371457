"""Samplers: any of the remaining candidates, the promising ones first."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import Architecture
from searcher.samplers import Trial, load_sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

TPE = load_sampler("tpe")
SAMPLERS = ("grid", "random", "tpe", "gp")
SPACE = [
    Architecture(block, depth, width)
    for block in ("basic", "preact")
    for depth in (8, 14, 20)
    for width in range(3, 13)
]
OTHERS = [Architecture("depthwise", 11, width) for width in (3, 5, 8)]

ARCHITECTURES = st.lists(st.sampled_from(SPACE + OTHERS), min_size=1, max_size=12, unique=True)


@st.composite
def _situations(draw: st.DrawFn) -> tuple[list[Architecture], list[Trial]]:
    """Some candidates that remain, and others that are open, failed or known."""
    candidates = draw(ARCHITECTURES)
    remaining = candidates[: draw(st.integers(1, len(candidates)))]
    outcomes = st.tuples(st.none() | st.floats(0, 100), st.booleans())
    return remaining, [Trial(each, *draw(outcomes)) for each in candidates[len(remaining) :]]


@pytest.mark.parametrize("name", SAMPLERS)
@settings(deadline=None, max_examples=20)
@given(situation=_situations(), seed=st.integers(0, 2**31 - 1))
def test_a_sampler_chooses_one_of_the_remaining_and_the_same_for_the_same_arguments(
    name: str, situation: tuple[list[Architecture], list[Trial]], seed: int
) -> None:
    remaining, trials = situation
    choose = load_sampler(name)
    chosen = choose(remaining, trials, seed)
    assert chosen in remaining
    assert choose(remaining, trials, seed) == chosen


def test_the_grid_takes_candidates_in_their_order() -> None:
    assert load_sampler("grid")(SPACE[4:], [Trial(SPACE[2], 99.0, open=False)], 7) == SPACE[4]


def test_at_random_every_candidate_may_come_next() -> None:
    choose = load_sampler("random")
    assert {choose(SPACE[:5], [], seed) for seed in range(60)} == set(SPACE[:5])


def test_with_a_second_objective_cheap_candidates_come_sooner() -> None:
    """Of two that are as accurate the sampler prefers the neighbourhood of the cheaper one."""
    known = SPACE[::3]

    def width_of_choices(cost: float) -> float:
        trials = [Trial(each, 90.0, open=False, cost=cost * each.width) for each in known]
        return fmean(TPE([each for each in SPACE if each not in known], trials, seed).width for seed in range(20))

    assert width_of_choices(1000.0) < width_of_choices(-1000.0)


def test_networks_of_one_depth_and_width_are_told_apart_by_what_else_their_names_say() -> None:
    names = [f"mobilenetv2-x{multiplier}" for multiplier in (0.45, 0.5, 0.55, 0.6)]
    names += [f"imagenet-preact-L18-D{width}-B{blocks}" for width in (8, 9) for blocks in ("2.2.2.2", "1.3.2.2")]
    space = [Architecture.parse(name) for name in names]
    assert {each.width for each in space[:3]} == {16}
    # Of several at one place only the first would ever be the nearest.
    chosen = {TPE(space, [], seed) for seed in range(60)}
    assert chosen == set(space)


def test_a_model_takes_the_only_candidate() -> None:
    for seed in range(5):
        assert TPE([SPACE[7]], [], seed) == SPACE[7]


def test_a_model_is_led_by_seed_and_results() -> None:
    chosen = {TPE(SPACE, [], seed) for seed in range(10)}
    assert len(chosen) > 3
    known = [Trial(each, _clear_cut(each), open=False) for each in SPACE[::3]]
    opposite = [Trial(each.architecture, 100.0 - (each.accuracy or 0.0), open=False) for each in known]
    remaining = [each for each in SPACE if each not in SPACE[::3]]
    better = [_clear_cut(TPE(remaining, known, seed)) for seed in range(10)]
    worse = [_clear_cut(TPE(remaining, opposite, seed)) for seed in range(10)]
    assert fmean(better) > fmean(worse)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("known_after", [0, 3, 100])
def test_every_candidate_is_proposed_once_until_none_is_left(name: str, known_after: int) -> None:
    """Results come at once, after three more proposals, or never (all trials stay open)."""
    choose = load_sampler(name)
    remaining, proposed = SPACE[::5] + OTHERS, list[Architecture]()
    while remaining:
        trials = [
            Trial(
                each,
                _clear_cut(each) if index < len(proposed) - known_after else None,
                open=index >= len(proposed) - known_after,
            )
            for index, each in enumerate(proposed)
        ]
        chosen = choose(remaining, trials, 0)
        remaining = [each for each in remaining if each != chosen]
        proposed.append(chosen)
    assert sorted(each.name for each in proposed) == sorted(each.name for each in SPACE[::5] + OTHERS)
    assert len(proposed) == len(set(proposed))


def _clear_cut(architecture: Architecture) -> float:
    """Accuracies with one summit, off the corners: preact-L14-D9."""
    block = 0.0 if architecture.block == "preact" else 25.0
    return 95.0 - block - abs(architecture.depth - 14) - 3 * abs(architecture.width - 9)


def _asks_until_best(candidates: Sequence[Architecture], seed: int) -> int:
    best = max(candidates, key=_clear_cut)
    remaining, trials = list(candidates), list[Trial]()
    while True:
        chosen = TPE(remaining, trials, seed)
        remaining.remove(chosen)
        trials.append(Trial(chosen, _clear_cut(chosen), open=False))
        if chosen == best:
            return len(trials)


def test_the_best_of_a_clear_cut_space_is_found_in_fewer_asks_than_in_random_order() -> None:
    expected_at_random = (len(SPACE) + 1) / 2
    assert fmean(_asks_until_best(SPACE, seed) for seed in range(8)) < 0.75 * expected_at_random
