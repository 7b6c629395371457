"""Proposing: every candidate at most once, searches in turn, however many workers ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from building import (
    at_once,
    claim,
    end_lease,
    kinds,
    nothing_to_claim,
    post,
    propose_candidates,
    rows,
    status_of,
    train_next_stage,
    work,
    work_all,
)

from qcore import Architecture
from searcher import next_proposal
from searcher.leases import release
from searcher.next_proposal import propose_next
from searcher.samplers import Trial, load_sampler
from searcher.searches import cancel_search
from searcher.tables import Candidate, Evaluation, Event, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from searcher.database import Database


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
    assert propose_next(database)  # for the one that was never served
    assert propose_next(database)
    assert (status_of(database, dry), status_of(database, waiting)) == ("finished", "running")
    assert _open_proposals(database, waiting) == 2


def test_a_search_is_left_to_the_worker_that_has_yet_to_tell_how_its_evaluation_ended(database: Database) -> None:
    search_id = post(database, widths=[3])
    assert propose_next(database)
    lease = claim(database)
    while train_next_stage(database, lease) != "W2A2":
        pass
    assert not propose_next(database)  # every stage is there, but the evaluation has not ended
    assert status_of(database, search_id) == "running"
    assert train_next_stage(database, lease) is None
    assert kinds(database, search_id)[-2:] == ["evaluation_done", "search_finished"]


def test_a_search_whose_worker_died_before_it_told_is_settled_by_others(database: Database) -> None:
    search_id = post(database, widths=[3])
    assert propose_next(database)
    lease = claim(database)
    while train_next_stage(database, lease) != "W2A2":
        pass
    end_lease(database, lease)
    assert not propose_next(database)
    assert status_of(database, search_id) == "finished"


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
    assert [propose_next(database, engine="ray") for _ in range(4)] == [True] * 3 + [False]
    assert (_open_proposals(database, ours), _open_proposals(database, on_ray)) == (0, 3)
    assert propose_next(database)
    assert (_open_proposals(database, ours), _open_proposals(database, on_ray)) == (1, 3)


def test_results_so_far_are_what_the_sampler_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[list[str], list[Trial], int]] = []
    real = load_sampler("tpe")

    def choose(remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
        told.append(([each.name for each in remaining], list(trials), seed))
        return real(remaining, trials, seed)

    monkeypatch.setattr(next_proposal, "load_sampler", lambda _name: choose)
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
