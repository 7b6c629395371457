"""What a limit, an error or a lost worker left out is named, shown, and trained when the search is extended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from building import claim, end_lease, post, propose_candidates, rows, run_out, stages_of, work
from sqlalchemy import update

from qcore import BitWidths, get_task
from searcher import leases, results
from searcher.leaderboard import leaderboard_of_search, leaderboard_of_task, leaderboard_revisions
from searcher.leases import MOST_ATTEMPTS
from searcher.next_proposal import propose_next
from searcher.request import Limits
from searcher.searches import delete_search, end_at_limits, extend_search, limit_reached
from searcher.situation import search_recipe
from searcher.tables import Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from searcher.database import Database
    from searcher.leaderboard import LeaderboardPage

TWO = {"widths": [3, 4], "seeds": [0, 1, 2], "sampler": "grid"}


def extend(database: Database, search_id: int, **limits: Any) -> None:
    with database.write() as session:
        assert extend_search(session, search_id, Limits(**limits)) is not None


def how_it_ended(database: Database, search_id: int) -> tuple[str, str | None]:
    (search,) = rows(database, Search, id=search_id)
    return search.status, search.ended_by


def board(database: Database, search_id: int) -> LeaderboardPage:
    with database.read() as session:
        return leaderboard_of_search(session, session.get_one(Search, search_id))


def board_of_all(database: Database, search_id: int) -> LeaderboardPage:
    with database.read() as session:
        search = session.get_one(Search, search_id)
        bits = [BitWidths.parse(each) for each in search.bit_widths]
        return leaderboard_of_task(session, get_task(search.task), search_recipe(search), bits)


def missing(page: LeaderboardPage) -> dict[int, dict[str, list[int]]]:
    return {entry.width: entry.missing for entry in page.entries if entry.missing}


def run_out_of_time(database: Database, search_id: int) -> None:
    with database.write() as session:
        session.execute(update(Search).where(Search.id == search_id).values(started_at=0.0))
    end_at_limits(database)


def all_there(database: Database, search_id: int) -> None:
    """Everything asked for was trained, and nothing twice."""
    assert how_it_ended(database, search_id) == ("finished", "complete")
    assert missing(board(database, search_id)) == {}
    evaluations = rows(database, Evaluation)
    assert {(each.width, each.seed) for each in evaluations} == {(width, seed) for width in (3, 4) for seed in range(3)}
    assert {each.status for each in evaluations} == {"done"}
    assert {each.status for each in rows(database, Stage)} == {"done"}


def test_a_limit_inside_a_candidates_seeds_loses_none_of_them(database: Database) -> None:
    search_id = post(database, **TWO, max_evaluations=4)
    assert run_out(database) == 4
    assert how_it_ended(database, search_id) == ("finished", "max_evaluations")
    page = board(database, search_id)
    assert [entry.width for entry in page.entries] == [4, 3]  # the one with a single seed has its rank
    assert missing(page) == {4: {"W2A2": [1, 2]}}
    assert [entry.best_at for entry in page.entries] == [[], ["float", "W2A2"]]
    assert page.best == {"float": ["basic-L8-D3"], "W2A2": ["basic-L8-D3"]}
    assert missing(board_of_all(database, search_id)) == missing(page)
    assert board_of_all(database, search_id).best == page.best
    extend(database, search_id, max_evaluations=5)
    assert run_out(database) == 1
    assert how_it_ended(database, search_id) == ("finished", "max_evaluations")
    extend(database, search_id, max_evaluations=None)
    assert run_out(database) == 1
    all_there(database, search_id)
    assert board(database, search_id).best["W2A2"] == ["basic-L8-D4"]


def test_results_that_are_there_already_do_not_hide_that_others_are_missing(database: Database) -> None:
    post(database, widths=[4], seeds=[1])
    run_out(database)
    search_id = post(database, **TWO, max_evaluations=3)
    assert run_out(database) == 3
    assert how_it_ended(database, search_id) == ("finished", "max_evaluations")
    extend(database, search_id, max_evaluations=None)
    assert run_out(database) == 2
    all_there(database, search_id)


@pytest.mark.parametrize("worked", [1, 2, 4])
def test_what_a_time_limit_cut_off_is_trained_when_the_search_is_extended(database: Database, worked: int) -> None:
    search_id = post(database, **TWO, time_limit_s=1000)
    propose_candidates(database, search_id)
    for _ in range(worked):
        work(database, claim(database))
    held = claim(database)
    run_out_of_time(database, search_id)
    assert how_it_ended(database, search_id) == ("finished", "time_limit_s")
    with pytest.raises(leases.LeaseLost), database.write() as session:
        leases.renew(session, held, 5.0)
    assert missing(board(database, search_id))
    extend(database, search_id, time_limit_s=1000)
    assert run_out(database) == 6 - worked
    all_there(database, search_id)


def _fail(database: Database) -> None:
    lease = claim(database)
    with database.write() as session:
        results.fail_evaluation(session, lease, "out of memory")


def _lose(database: Database) -> None:
    for _ in range(MOST_ATTEMPTS):
        end_lease(database, claim(database))
    with database.write() as session:
        leases.bury_lost(session)


@pytest.mark.parametrize("befall", [_fail, _lose])
def test_what_failed_or_was_lost_is_named_and_tried_again(
    database: Database, befall: Callable[[Database], None]
) -> None:
    search_id = post(database, **TWO, max_evaluations=6)
    propose_candidates(database, search_id)
    work(database, claim(database))
    befall(database)
    assert run_out(database) == 4
    assert how_it_ended(database, search_id) == ("finished", "failures")
    (without,) = [each for each in rows(database, Evaluation) if each.status != "done"]
    assert missing(board(database, search_id)) == {without.width: {"W2A2": [without.seed]}}
    extend(database, search_id, max_evaluations=6)
    assert run_out(database) == 1
    all_there(database, search_id)


def test_bit_widths_that_a_limit_left_out_are_trained_when_the_search_is_extended(database: Database) -> None:
    """Another search goes on with the evaluation, and has no use for them."""
    other = post(database, proposed=True, widths=[3])
    search_id = post(database, widths=[3], bit_widths=["W2A2", "W4A4"], time_limit_s=1000)
    propose_candidates(database, search_id)
    run_out_of_time(database, search_id)
    assert run_out(database) == 1
    assert how_it_ended(database, other) == ("finished", "complete")
    assert how_it_ended(database, search_id) == ("finished", "time_limit_s")
    assert missing(board(database, search_id)) == {3: {"W4A4": [0]}}
    assert board(database, search_id).best == {"float": [], "W2A2": []}
    assert missing(board(database, other)) == {}
    extend(database, search_id, time_limit_s=1000)
    assert run_out(database) == 1
    assert how_it_ended(database, search_id) == ("finished", "complete")
    assert missing(board(database, search_id)) == {}
    (evaluation,) = rows(database, Evaluation)
    assert set(stages_of(database, evaluation.id)) == {"float", "W2A2", "W4A4"}


def test_seeds_of_a_finalist_that_a_limit_left_out_are_trained_when_the_search_is_extended(database: Database) -> None:
    halving = {"widths": [3, 4, 5, 6], "seeds": [0, 1], "rungs": [0.5], "promoted_share": 0.5, "sampler": "grid"}
    search_id = post(database, **halving, max_evaluations=7)
    for _ in range(3):
        assert propose_next(database)
        work(database, claim(database))
    extend(database, search_id, max_evaluations=6)
    run_out(database)
    assert sorted(len(entry.seeds) for entry in board(database, search_id).entries) == [1, 2]
    assert how_it_ended(database, search_id) == ("finished", "max_evaluations")
    extend(database, search_id, max_evaluations=None)
    run_out(database)
    assert how_it_ended(database, search_id) == ("finished", "complete")
    assert {tuple(entry.seeds) for entry in board(database, search_id).entries} == {(0, 1)}
    assert {each.attempt for each in rows(database, Evaluation)} == {1}


def test_a_provisional_network_reaches_no_target(database: Database) -> None:
    search_id = post(database, **TWO, max_evaluations=4, target_accuracy=44.0)
    run_out(database)  # of the wider network, whose single seed is at 44 % and more
    with database.read() as session:
        assert limit_reached(session, session.get_one(Search, search_id)) is None
    extend(database, search_id, max_evaluations=None)
    run_out(database)
    with database.read() as session:
        assert limit_reached(session, session.get_one(Search, search_id)) == "target_accuracy"


def test_a_running_search_that_is_extended_goes_on_with_what_its_limit_left_out(database: Database) -> None:
    search_id = post(database, **TWO, max_evaluations=4)
    propose_candidates(database, search_id)
    work(database, claim(database))
    extend(database, search_id, max_evaluations=None)
    assert run_out(database) == 5
    all_there(database, search_id)


def test_on_the_leaderboard_of_all_searches_everything_counts_that_any_has_begun_with(database: Database) -> None:
    first = post(database, widths=[3, 4])
    run_out(database)
    revisions = _revisions(database, first)
    assert missing(board_of_all(database, first)) == {}
    more = post(database, widths=[4, 5], seeds=[0, 7], sampler="grid", max_evaluations=1)
    propose_candidates(database, more, most=1)
    page = board_of_all(database, first)
    assert missing(page) == {4: {"W2A2": [7]}}
    assert page.best["W2A2"] == ["basic-L8-D3"]
    assert missing(board(database, first)) == {}  # which did not ask for that
    assert _revisions(database, first) != revisions
    work(database, claim(database))
    assert missing(board_of_all(database, first)) == {}
    extend(database, more, max_evaluations=2)
    propose_candidates(database, more)
    begun = _revisions(database, first)
    assert missing(board_of_all(database, first)) == {}  # nothing is known of width 5, so that it is on no leaderboard
    run_out_of_time(database, more)
    with database.write() as session:
        leases.end_leases(session, "nobody")
        session.execute(update(Search).where(Search.id == more).values(status="cancelled"))
        delete_search(session, more)
    assert _revisions(database, first) != begun


def _revisions(database: Database, search_id: int) -> tuple[object, ...]:
    with database.read() as session:
        search = session.get_one(Search, search_id)
        return leaderboard_revisions(session, get_task("digits"), search_recipe(search), [BitWidths.parse("W2A2")])


def test_nothing_is_proposed_twice_by_an_extension(database: Database) -> None:
    search_id = post(database, **TWO, max_evaluations=4)
    run_out(database)
    before = {(each.candidate_id, each.evaluation_id) for each in rows(database, Proposal)}
    extend(database, search_id, max_evaluations=None)
    run_out(database)
    after = {(each.candidate_id, each.evaluation_id) for each in rows(database, Proposal)}
    assert before < after
    assert {each.attempt for each in rows(database, Evaluation)} == {1}
