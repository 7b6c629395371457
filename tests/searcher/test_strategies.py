"""Searches by rungs, further seeds and limits, in the tables: what is proposed, ranked, ended and extended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from building import (
    claim,
    kinds,
    nothing_to_claim,
    post,
    recipe,
    rows,
    run_out,
    search_plan,
    stages_of,
    status_of,
    train_next_stage,
    work,
)
from sqlalchemy import update

from qcore import BitWidths, InvalidInput, describe, get_task, scaled_recipe
from searcher import leases, next_proposal
from searcher.leaderboard import search_leaderboard
from searcher.next_proposal import propose_next
from searcher.progress import candidates_of, progress
from searcher.request import Limits
from searcher.samplers import Trial, load_sampler
from searcher.searches import cancel_search, end_at_limits, extend_search
from searcher.situation import recipes_of
from searcher.tables import Evaluation, Event, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Architecture
    from searcher.database import Database

RUNGS: dict[str, Any] = {"rungs": [0.25], "promoted_share": 0.4, "recipe": recipe(4, 4), "sampler": "grid"}


def search_of(database: Database, search_id: int) -> Search:
    (search,) = rows(database, Search, id=search_id)
    found: Search = search
    return found


def proposed_widths(database: Database, search_id: int) -> dict[int, list[int]]:
    """By rung, the widths of the candidates proposed there."""
    with database.read() as session:
        found: dict[int, list[int]] = {}
        for candidate, evaluations in candidates_of(session, session.get_one(Search, search_id)):
            for each in evaluations:
                found.setdefault(1 if each.rung is None else each.rung, []).append(candidate.width)
    return found


def test_every_candidate_is_tried_by_a_short_recipe_and_the_best_by_the_full_one(database: Database) -> None:
    search_id = post(database, **RUNGS)
    assert run_out(database) == 7
    assert proposed_widths(database, search_id) == {0: [3, 4, 5, 6, 7], 1: [6, 7]}
    search = search_of(database, search_id)
    assert (search.status, search.ended_by) == ("finished", "complete")
    with database.read() as session:
        ranked = search_leaderboard(session, search)
        apart = search_leaderboard(session, search, rung=0)
    assert [entry.width for entry in ranked] == [7, 6]
    assert [entry.width for entry in apart] == [7, 6, 5, 4, 3]
    assert list(ranked[0].accuracy) == list(apart[0].accuracy) == ["float", "W2A2"]


def test_a_rung_trains_only_what_ranks_with_both_stages_cut_short(database: Database) -> None:
    search_id = post(database, **RUNGS | {"bit_widths": ["W2A2", "W2AF"]})
    run_out(database)
    search = search_of(database, search_id)
    short, full = recipes_of(search)
    assert short == scaled_recipe(full, 0.25)
    for evaluation in rows(database, Evaluation):
        stages = stages_of(database, evaluation.id)
        if evaluation.float_recipe_hash == short.float_part.hash():
            assert {bits: stage.epochs for bits, stage in stages.items()} == {"float": 1, "W2A2": 1}
        else:
            assert {bits: stage.epochs for bits, stage in stages.items()} == {"float": 4, "W2A2": 4, "W2AF": 4}


def test_progress_knows_what_promotions_will_cost(database: Database) -> None:
    search_id = post(database, **RUNGS)
    expected = 5 * (1 + 1) + 2 * (4 + 4)
    with database.read() as session:
        assert progress(session, session.get_one(Search, search_id)).epochs_total == expected
    run_out(database)
    with database.read() as session:
        told = progress(session, session.get_one(Search, search_id))
    assert (told.epochs_done, told.epochs_total) == (expected, expected)


def test_rung_results_are_stored_and_reused(database: Database) -> None:
    run_out_ids = post(database, **RUNGS)
    run_out(database)
    again = post(database, **RUNGS)
    assert status_of(database, again) == "finished"
    assert proposed_widths(database, again) == proposed_widths(database, run_out_ids)
    assert all(proposal.free for proposal in rows(database, Proposal, search_id=again))
    wider = post(database, **RUNGS | {"widths": [3, 4, 5, 6, 7, 8]})
    assert run_out(database) == 2  # the new candidate at its rung, and in full, for it is the best
    assert proposed_widths(database, wider) == {0: [3, 4, 5, 6, 7, 8], 1: [6, 7, 8]}


def test_a_limit_leaves_room_for_promotions(database: Database) -> None:
    search_id = post(database, **RUNGS, max_evaluations=4)
    assert run_out(database) == 3  # with a third, two were to be promoted
    assert proposed_widths(database, search_id) == {0: [3, 4], 1: [4]}
    assert search_of(database, search_id).ended_by == "max_evaluations"


def test_an_extended_search_goes_on_where_its_limit_ended_it(database: Database) -> None:
    search_id = post(database, max_evaluations=2, sampler="grid")
    assert run_out(database) == 2
    assert search_of(database, search_id).ended_by == "max_evaluations"
    with database.write() as session:
        search = extend_search(session, search_id, Limits(max_evaluations=4))
        assert search is not None
        assert (search.status, search.ended_at, search.ended_by) == ("running", None, None)
    assert run_out(database) == 2
    assert status_of(database, search_id) == "finished"
    assert kinds(database, search_id).count("search_extended") == 1
    with database.write() as session:  # null takes the limit away
        extend_search(session, search_id, Limits(max_evaluations=None))
    assert run_out(database) == 1
    assert search_of(database, search_id).ended_by == "complete"


def test_a_search_with_nothing_left_stays_finished_when_extended(database: Database) -> None:
    search_id = post(database, widths=[3])
    run_out(database)
    with database.write() as session:
        extend_search(session, search_id, Limits(max_evaluations=100))
    assert status_of(database, search_id) == "finished"


def test_a_cancelled_search_is_not_extended(database: Database) -> None:
    search_id = post(database)
    with database.write() as session:
        cancel_search(session, search_id)
    with pytest.raises(InvalidInput, match="cancelled"), database.write() as session:
        extend_search(session, search_id, Limits(max_evaluations=100))
    assert status_of(database, search_id) == "cancelled"


def test_a_time_limit_ends_a_search_with_what_it_has(database: Database) -> None:
    search_id = post(database, time_limit_s=1000.0, sampler="grid")
    assert propose_next(database)
    work(database, claim(database))
    assert propose_next(database)
    running = claim(database)
    end_at_limits(database)
    assert status_of(database, search_id) == "running"
    with database.write() as session:
        session.execute(update(Search).values(started_at=Search.started_at - 1000.0))
    end_at_limits(database)
    search = search_of(database, search_id)
    assert (search.status, search.ended_by) == ("finished", "time_limit_s")
    assert rows(database, Event, search_id=search_id)[-1].data == {"ended_by": "time_limit_s"}
    assert [each.status for each in rows(database, Evaluation)] == ["done", "cancelled"]
    with pytest.raises(leases.LeaseLost):
        train_next_stage(database, running)
    with database.read() as session:
        assert len(search_leaderboard(session, search)) == 1
    with database.write() as session:  # counted anew from now on
        extend_search(session, search_id, Limits(time_limit_s=1000.0))
    end_at_limits(database)
    assert status_of(database, search_id) == "running"
    run_out(database)  # what the limit had cancelled is evaluated too
    assert status_of(database, search_id) == "finished"
    assert [each.status for each in rows(database, Evaluation)] == ["done"] * 5


def test_a_target_ends_a_search_with_the_first_candidate_that_reaches_it(database: Database) -> None:
    search_id = post(database, target_accuracy=45.0, sampler="grid")  # the made-up accuracy is 40 and the width
    for _ in range(3):
        assert propose_next(database)
        work(database, claim(database))
        end_at_limits(database)
    search = search_of(database, search_id)
    assert (search.status, search.ended_by) == ("finished", "target_accuracy")
    assert not propose_next(database)
    assert nothing_to_claim(database)


def test_what_another_search_wants_goes_on_when_a_limit_ends_one(database: Database) -> None:
    post(database, time_limit_s=1000.0, widths=[3])
    other = post(database, widths=[3])
    assert propose_next(database)
    assert propose_next(database)
    with database.write() as session:
        session.execute(update(Search).where(Search.id != other).values(started_at=0.0))
    end_at_limits(database)
    work(database, claim(database))
    assert status_of(database, other) == "finished"


def test_a_rungs_target_is_not_the_searchs(database: Database) -> None:
    search_id = post(database, **RUNGS, target_accuracy=1.0)
    assert propose_next(database)
    work(database, claim(database))
    end_at_limits(database)
    assert status_of(database, search_id) == "running"


def test_finalists_are_repeated_and_ranked_by_all_their_seeds(database: Database) -> None:
    search_id = post(database, widths=[3, 4, 12], max_seeds=3, indifference_margin=0.0, seeds=[0, 1])

    def accuracy(evaluation: Evaluation, _bits: str) -> float:
        return (20.0 if evaluation.width == 12 else 90.0) + [0.0, 2.0, 1.0][evaluation.seed]

    run_out(database, accuracy)
    with database.read() as session:
        entries = search_leaderboard(session, search_of(database, search_id))
    assert {entry.width: entry.seeds for entry in entries} == {3: [0, 1, 2], 4: [0, 1, 2], 12: [0, 1]}


def test_searches_of_a_higher_priority_are_served_first(database: Database) -> None:
    low, high = post(database, priority=-1), post(database, seeds=[1], priority=5)
    for _ in range(5):
        assert propose_next(database)
    assert len(rows(database, Proposal, search_id=high)) == 5
    assert rows(database, Proposal, search_id=low) == []
    assert propose_next(database)
    assert len(rows(database, Proposal, search_id=low)) == 1


def test_searches_of_one_priority_take_turns_even_at_a_single_worker(database: Database) -> None:
    first, second = post(database), post(database, seeds=[1])
    served = []
    for _ in range(6):
        assert propose_next(database)
        served.append(len(rows(database, Proposal, search_id=first)) - len(rows(database, Proposal, search_id=second)))
        work(database, claim(database))
    assert served == [1, 0] * 3


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rungs": [0.5, 0.25]}, "rungs"),
        ({"rungs": [0.25, 0.25]}, "rungs"),
        ({"rungs": [0.999999999999]}, "rungs"),
        ({"seeds": [0, 1, 2], "max_seeds": 2}, "max_seeds"),
        ({"sampler": "gp", "minimize": "parameters"}, "minimize"),
    ],
)
def test_strategies_that_contradict_themselves_are_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        search_plan(**fields)
    assert raised.value.field == field
    assert raised.value.remedy


@pytest.mark.parametrize("cost", [None, "parameters", "bit_operations"])
def test_a_second_objective_reaches_the_sampler(
    sqlite_database: Database, cost: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search with it runs to its end, and TPE is told what every network costs."""
    told: list[Trial] = []
    real = load_sampler("tpe")

    def choose(remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
        told.extend(trials)
        return real(remaining, trials, seed)

    monkeypatch.setattr(next_proposal, "load_sampler", lambda _name: choose)
    search_id = post(sqlite_database, minimize=cost, widths=list(range(3, 11)))
    assert run_out(sqlite_database) == 8
    assert status_of(sqlite_database, search_id) == "finished"
    task = get_task("digits")

    def costs(architecture: Architecture) -> float | None:
        of_it = describe(architecture, task, [BitWidths.parse("W2A2")])
        return {"parameters": of_it.parameters, "bit_operations": of_it.bit_operations["W2A2"]}.get(cost or "")

    assert len({each.architecture for each in told}) == 7
    assert {each.architecture: each.cost for each in told} == {
        each.architecture: costs(each.architecture) for each in told
    }
