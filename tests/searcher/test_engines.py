"""Engines and proposing: every candidate at most once, the promising ones first."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from building import (
    at_once,
    claim,
    nothing_to_claim,
    post,
    propose_candidates,
    rows,
    status_of,
    work,
    work_all,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import Architecture
from searcher.engines import Trial, load_engine
from searcher.leases import release
from searcher.proposals import propose_next
from searcher.searches import cancel_search
from searcher.tables import Candidate, Evaluation, Event, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from searcher.database import Database

ENGINE = load_engine("optuna")
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


@settings(deadline=None, max_examples=40)
@given(situation=_situations(), seed=st.integers(0, 2**31 - 1))
def test_the_engine_chooses_one_of_the_remaining_and_the_same_for_the_same_arguments(
    situation: tuple[list[Architecture], list[Trial]], seed: int
) -> None:
    remaining, trials = situation
    chosen = ENGINE.choose(remaining, trials, seed)
    assert chosen in remaining
    assert ENGINE.choose(remaining, trials, seed) == chosen


def test_networks_of_one_depth_and_width_are_told_apart_by_what_else_their_names_say() -> None:
    names = [f"mobilenetv2-x{multiplier}" for multiplier in (0.45, 0.5, 0.55, 0.6)]
    names += [f"imagenet-preact-L18-D{width}-B{blocks}" for width in (8, 9) for blocks in ("2.2.2.2", "1.3.2.2")]
    space = [Architecture.parse(name) for name in names]
    assert {each.width for each in space[:3]} == {16}
    # Of several at one place only the first would ever be the nearest.
    chosen = {ENGINE.choose(space, [], seed) for seed in range(60)}
    assert chosen == set(space)


def test_the_engine_takes_the_only_candidate() -> None:
    for seed in range(5):
        assert ENGINE.choose([SPACE[7]], [], seed) == SPACE[7]


def test_the_engine_is_led_by_seed_and_results() -> None:
    chosen = {ENGINE.choose(SPACE, [], seed) for seed in range(10)}
    assert len(chosen) > 3
    known = [Trial(each, _clear_cut(each), open=False) for each in SPACE[::3]]
    opposite = [Trial(each.architecture, 100.0 - (each.accuracy or 0.0), open=False) for each in known]
    remaining = [each for each in SPACE if each not in SPACE[::3]]
    better = [_clear_cut(ENGINE.choose(remaining, known, seed)) for seed in range(10)]
    worse = [_clear_cut(ENGINE.choose(remaining, opposite, seed)) for seed in range(10)]
    assert fmean(better) > fmean(worse)


@pytest.mark.parametrize("known_after", [0, 3, 100])
def test_every_candidate_is_proposed_once_until_none_is_left(known_after: int) -> None:
    """Results come at once, after three more proposals, or never (all trials stay open)."""
    remaining, proposed = SPACE[::2] + OTHERS, list[Architecture]()
    while remaining:
        trials = [
            Trial(
                each,
                _clear_cut(each) if index < len(proposed) - known_after else None,
                open=index >= len(proposed) - known_after,
            )
            for index, each in enumerate(proposed)
        ]
        chosen = ENGINE.choose(remaining, trials, 0)
        remaining = [each for each in remaining if each != chosen]
        proposed.append(chosen)
    assert sorted(each.name for each in proposed) == sorted(each.name for each in SPACE[::2] + OTHERS)
    assert len(proposed) == len(set(proposed))


def _clear_cut(architecture: Architecture) -> float:
    """Accuracies with one summit, off the corners: preact-L14-D9."""
    block = 0.0 if architecture.block == "preact" else 25.0
    return 95.0 - block - abs(architecture.depth - 14) - 3 * abs(architecture.width - 9)


def _asks_until_best(candidates: Sequence[Architecture], seed: int) -> int:
    best = max(candidates, key=_clear_cut)
    remaining, trials = list(candidates), list[Trial]()
    while True:
        chosen = ENGINE.choose(remaining, trials, seed)
        remaining.remove(chosen)
        trials.append(Trial(chosen, _clear_cut(chosen), open=False))
        if chosen == best:
            return len(trials)


def test_the_best_of_a_clear_cut_space_is_found_in_fewer_asks_than_in_random_order() -> None:
    expected_at_random = (len(SPACE) + 1) / 2
    assert fmean(_asks_until_best(SPACE, seed) for seed in range(8)) < 0.75 * expected_at_random


def _open_proposals(database: Database, search_id: int) -> int:
    return len(rows(database, Proposal, search_id=search_id))


def test_the_search_with_the_fewest_open_proposals_is_served_next(database: Database) -> None:
    first = post(database)
    propose_candidates(database, first, most=2)
    second = post(database, seeds=[1])
    counts = []
    for _ in range(4):
        assert propose_next(database)
        counts.append((_open_proposals(database, first), _open_proposals(database, second)))
    assert counts == [(2, 1), (2, 2), (3, 2), (3, 3)]


def test_ended_evaluations_do_not_count_as_open(database: Database) -> None:
    first = post(database)
    propose_candidates(database, first, most=2)
    work_all(database)
    second = post(database, seeds=[1])
    propose_candidates(database, second, most=1)
    assert propose_next(database)
    assert (_open_proposals(database, first), _open_proposals(database, second)) == (3, 1)


def test_proposals_go_on_until_every_candidate_had_its_turn(database: Database) -> None:
    search_id = post(database, seeds=[0, 1])
    assert [propose_next(database) for _ in range(7)] == [True] * 5 + [False] * 2
    candidates = {candidate.id for candidate in rows(database, Candidate)}
    assert {proposal.candidate_id for proposal in rows(database, Proposal)} == candidates
    assert len(rows(database, Evaluation)) == 10
    assert status_of(database, search_id) == "running"
    work_all(database)
    assert status_of(database, search_id) == "finished"


def test_proposals_stop_at_the_limit(database: Database) -> None:
    search_id = post(database, max_evaluations=2)
    assert [propose_next(database) for _ in range(3)] == [True, True, False]
    assert len(rows(database, Evaluation)) == 2
    work_all(database)
    assert status_of(database, search_id) == "finished"


def test_a_search_that_ran_dry_is_settled_on_the_way_to_the_next(database: Database) -> None:
    dry = post(database, widths=[3, 4], max_evaluations=1)
    propose_candidates(database, dry, most=1)
    work(database, claim(database))
    with database.write() as session:
        session.get_one(Search, dry).status = "running"  # as if its worker had died before it settled the search
    waiting = post(database, seeds=[1])
    assert propose_next(database)
    assert (status_of(database, dry), status_of(database, waiting)) == ("finished", "running")
    assert _open_proposals(database, waiting) == 1


def test_nothing_is_proposed_for_searches_that_have_ended(database: Database) -> None:
    assert not propose_next(database)
    search_id = post(database)
    with database.write() as session:
        cancel_search(session, search_id)
    assert not propose_next(database)
    assert rows(database, Evaluation) == []


def test_an_evaluation_that_was_handed_back_is_claimed_before_anything_is_proposed(database: Database) -> None:
    post(database)
    assert propose_next(database)
    lease = claim(database)
    assert nothing_to_claim(database)
    with database.write() as session:
        release(session, lease)
    assert claim(database).evaluation_id == lease.evaluation_id


def test_proposing_at_once_never_proposes_a_candidate_twice(database: Database) -> None:
    searches = [post(database, widths=list(range(3, 15)), parameter_budget=100_000, seeds=[seed]) for seed in range(2)]

    def propose_all() -> int:
        count = 0
        while propose_next(database):
            count += 1
        return count

    assert sum(at_once(*[propose_all] * 3)) == 24
    for search_id in searches:
        told = [event.data["architecture"] for event in rows(database, Event, search_id=search_id)[1:]]
        assert sorted(told) == sorted(each.architecture for each in rows(database, Candidate, search_id=search_id))
    assert len(rows(database, Proposal)) == len(rows(database, Evaluation)) == 24


def test_candidates_are_proposed_for_searches_of_one_engine(database: Database) -> None:
    ours, on_ray = post(database, widths=[3, 4]), post(database, widths=[3, 4, 5], seeds=[1], engine="ray")
    assert [propose_next(database, "ray") for _ in range(4)] == [True] * 3 + [False]
    assert (_open_proposals(database, ours), _open_proposals(database, on_ray)) == (0, 3)
    assert propose_next(database)
    assert (_open_proposals(database, ours), _open_proposals(database, on_ray)) == (1, 3)


def test_results_so_far_are_what_the_engine_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[list[str], list[Trial], int]] = []
    real = ENGINE.choose

    def choose(remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
        told.append(([each.name for each in remaining], list(trials), seed))
        return real(remaining, trials, seed)

    monkeypatch.setattr(ENGINE, "choose", choose)
    search_id = post(database, seeds=[6, 8])
    propose_candidates(database, search_id, most=2)
    work(database, claim(database))
    work(database, claim(database))
    assert propose_next(database)
    known = {3: 43.0 + (6 + 8) / 2 / 4}
    assert told == [
        (
            ["basic-L8-D5", "basic-L8-D6", "basic-L8-D7"],
            [
                Trial(Architecture("basic", 8, 3), known[3], open=False),
                Trial(Architecture("basic", 8, 4), None, open=True),
            ],
            6,
        )
    ]
