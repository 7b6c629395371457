"""Plans: whatever the order in which results come, the best are promoted, limits are kept and every plan ends."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import Architecture
from searcher.planning import Outcome, Situation, Strategy, Wish, promoted
from searcher.samplers import load_sampler

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = tuple(Architecture("basic", 8, width) for width in range(3, 43))
Accuracy = "Callable[[Architecture, int, int], float | None]"


def carried_out(
    strategy: Strategy,
    candidates: tuple[Architecture, ...],
    accuracy: Callable[[Architecture, int, int], float | None],
    *,
    workers: int = 1,
    most: int | None = None,
    order: int = 0,
    known: list[Outcome] | None = None,
) -> list[Outcome]:
    """Outcomes in the order of their proposals, by workers that take any time; fails where a plan would not end.

    ``known`` are those of before: the search was extended.
    """
    drawn = random.Random(order)
    outcomes = list(known or [])
    for _ in range(10_000):
        left = None if most is None else most - len(outcomes)
        wish = Situation(strategy, candidates, tuple(outcomes), left).next_wish(load_sampler("random"))
        busy = [index for index, outcome in enumerate(outcomes) if outcome.open]
        if wish is not None and len(busy) < workers:
            seeds = wish.seeds if left is None else wish.seeds[:left]
            outcomes += [Outcome(wish.architecture, wish.rung, seed, None, open=True) for seed in seeds]
        elif busy:
            index = drawn.choice(busy)
            each = outcomes[index]
            value = accuracy(each.architecture, each.rung, each.seed)
            outcomes[index] = replace(each, accuracy=value, open=False)
        else:
            return outcomes
    raise AssertionError("the plan does not end")


def at_rung(outcomes: list[Outcome], rung: int) -> list[Architecture]:
    return [outcome.architecture for outcome in outcomes if outcome.rung == rung]


def by_width(architecture: Architecture, _rung: int, _seed: int) -> float:
    return float(architecture.width)


@st.composite
def strategies(draw: st.DrawFn) -> Strategy:
    return Strategy(
        seeds=tuple(range(draw(st.integers(1, 3)))),
        rungs=draw(st.integers(0, 3)),
        promoted_share=draw(st.floats(0.05, 0.95)),
        promotes_early=draw(st.booleans()),
        max_seeds=draw(st.integers(1, 5)),
        top=draw(st.integers(1, 4)),
        indifference_margin=draw(st.floats(0, 3)),
    )


@settings(deadline=None, max_examples=150)
@given(
    strategy=strategies(),
    count=st.integers(1, len(SPACE)),
    workers=st.integers(1, 9),
    most=st.none() | st.integers(1, 60),
    order=st.integers(0, 10**6),
)
def test_every_plan_ends_within_its_limit_and_evaluates_nothing_twice(
    strategy: Strategy, count: int, workers: int, most: int | None, order: int
) -> None:
    noise = random.Random(order)

    def accuracy(architecture: Architecture, _rung: int, _seed: int) -> float | None:
        return None if noise.random() < 0.1 else architecture.width + noise.gauss(0, 5)

    outcomes = carried_out(strategy, SPACE[:count], accuracy, workers=workers, most=most, order=order)
    named = [(outcome.architecture, outcome.rung, outcome.seed) for outcome in outcomes]
    assert len(named) == len(set(named))
    assert most is None or len(outcomes) <= most
    if most is None:
        assert set(at_rung(outcomes, 0)) == set(SPACE[:count])
    for rung in range(1, strategy.rungs + 1):
        assert set(at_rung(outcomes, rung)) <= set(at_rung(outcomes, rung - 1))
    for architecture in SPACE:
        seeds = [outcome.seed for outcome in outcomes if outcome.architecture == architecture]
        assert len(seeds) <= strategy.rungs + max(strategy.max_seeds, len(strategy.seeds))


@settings(deadline=None, max_examples=100)
@given(
    strategy=strategies(),
    count=st.integers(1, 12),
    workers=st.integers(1, 9),
    most=st.integers(1, 40),
    order=st.integers(0, 10**6),
)
def test_a_search_that_is_extended_completes_what_its_limit_left_out(
    strategy: Strategy, count: int, workers: int, most: int, order: int
) -> None:
    limited = carried_out(strategy, SPACE[:count], by_width, workers=workers, most=most, order=order)
    outcomes = carried_out(strategy, SPACE[:count], by_width, workers=workers, order=order, known=limited)
    named = [(outcome.architecture, outcome.rung, outcome.seed) for outcome in outcomes]
    assert len(named) == len(set(named))
    for rung in range(strategy.rungs + 1):
        seeds = strategy.seeds if rung == strategy.rungs else strategy.seeds[:1]
        for architecture in at_rung(outcomes, rung):
            assert {seed for each, at, seed in named if (each, at) == (architecture, rung)} >= set(seeds)


@settings(deadline=None, max_examples=100)
@given(
    share=st.floats(0.05, 0.95),
    rungs=st.integers(1, 3),
    count=st.integers(1, len(SPACE)),
    workers=st.integers(1, 9),
    order=st.integers(0, 10**6),
)
def test_exactly_the_best_share_of_each_rung_goes_on_however_many_workers_there_are(
    share: float, rungs: int, count: int, workers: int, order: int
) -> None:
    strategy = Strategy(rungs=rungs, promoted_share=share)
    outcomes = carried_out(strategy, SPACE[:count], by_width, workers=workers, order=order)
    expected = set(SPACE[:count])
    for rung in range(1, rungs + 1):
        best_first = sorted(expected, key=lambda each: -each.width)
        expected = set(best_first[: math.ceil(round(share * len(expected), 9))])
        assert set(at_rung(outcomes, rung)) == expected


def test_where_time_is_limited_the_best_so_far_are_promoted_before_all_have_entered() -> None:
    strategy = Strategy(rungs=1, promoted_share=0.25, promotes_early=True)
    outcomes = carried_out(strategy, SPACE, by_width)
    first_promotion = next(index for index, outcome in enumerate(outcomes) if outcome.rung == 1)
    assert first_promotion == 4
    late = SPACE[-1]  # the best of all goes on, whenever it came
    assert late in at_rung(outcomes, 1)


def test_with_a_limit_as_many_enter_as_leave_room_for_promotions() -> None:
    outcomes = carried_out(Strategy(rungs=1, promoted_share=0.25), SPACE, by_width, most=10, workers=3)
    assert (len(at_rung(outcomes, 0)), len(at_rung(outcomes, 1))) == (8, 2)
    with_seeds = Strategy(rungs=1, promoted_share=0.25, seeds=(0, 1, 2))
    outcomes = carried_out(with_seeds, SPACE, by_width, most=10, workers=3)
    assert (len(at_rung(outcomes, 0)), len(at_rung(outcomes, 1))) == (4, 3)


def test_a_candidate_that_failed_at_a_rung_is_not_promoted() -> None:
    def accuracy(architecture: Architecture, _rung: int, _seed: int) -> float | None:
        return None if architecture.width > 4 else float(architecture.width)

    outcomes = carried_out(Strategy(rungs=1, promoted_share=0.5), SPACE[:8], accuracy)
    assert {each.width for each in at_rung(outcomes, 1)} == {3, 4}


def test_late_good_arrivals_are_promoted_too() -> None:
    strategy = Strategy(rungs=1, promoted_share=0.5)
    ended = [Outcome(each, 0, 0, float(each.width), open=False) for each in SPACE[:4]]
    promoted = [Outcome(each, 1, 0, 50.0, open=False) for each in SPACE[2:4]]
    late = [Outcome(each, 0, 0, 100.0 + each.width, open=False) for each in SPACE[4:6]]
    wish = Situation(strategy, SPACE[:6], (*ended, *promoted, *late)).next_wish()
    assert wish == Wish(SPACE[5], 1, (0,))


def test_further_seeds_go_to_those_whose_ranks_are_not_told_apart() -> None:
    drawn = random.Random(0)

    def accuracy(architecture: Architecture, _rung: int, _seed: int) -> float:
        return (90.0 if architecture.width <= 4 else 60.0) + drawn.gauss(0, 1)

    strategy = Strategy(seeds=(0, 1), max_seeds=6, top=1)
    outcomes = carried_out(strategy, SPACE[:6], accuracy)
    counts = {each.width: at_rung(outcomes, 0).count(each) for each in SPACE[:6]}
    assert counts == {3: 6, 4: 6, 5: 2, 6: 2, 7: 2, 8: 2}
    seeds = sorted(outcome.seed for outcome in outcomes if outcome.architecture == SPACE[0])
    assert seeds == [0, 1, 2, 3, 4, 5]


def test_clear_winners_are_not_repeated() -> None:
    drawn = random.Random(0)

    def accuracy(architecture: Architecture, _rung: int, _seed: int) -> float:
        return 5.0 * architecture.width + drawn.gauss(0, 0.1)

    outcomes = carried_out(Strategy(seeds=(0, 1), max_seeds=6), SPACE[:6], accuracy)
    assert len(outcomes) == 12


@pytest.mark.parametrize("workers", [1, 4])
def test_results_that_are_there_already_are_not_asked_for_again(workers: int) -> None:
    known = Outcome(SPACE[0], 1, 0, 99.0, open=False)
    strategy = Strategy(rungs=1, promoted_share=0.25)
    outcomes = carried_out(strategy, SPACE[:8], by_width, workers=workers, known=[known])
    assert [outcome for outcome in outcomes if outcome.architecture == SPACE[0]] == [known]
    assert set(at_rung(outcomes, 0)) == set(SPACE[1:8])


@given(st.integers(1, 100), st.integers(0, 2000))
def test_a_share_that_is_whole_promotes_no_more_for_rounding(hundredths: int, population: int) -> None:
    assert promoted(hundredths / 100, population) == -(-hundredths * population // 100)
