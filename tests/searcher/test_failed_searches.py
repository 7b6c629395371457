"""Searches that fail: nothing of them succeeded, or nothing can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from building import claim, end_lease, kinds, nothing_to_claim, post, rows, run_out, status_of, train_next_stage, work
from sqlalchemy import update

from searcher import leases, results
from searcher.database import database_now
from searcher.events import lock_searches
from searcher.request import Limits
from searcher.searches import end_at_limits, extend_search, fail_search
from searcher.tables import Evaluation, Event, Search

if TYPE_CHECKING:
    from searcher.database import Database


def _fail(database: Database, error: str) -> None:
    lease = claim(database)
    with database.write() as session:
        results.fail_evaluation(session, lease, error)


def _fail_search(database: Database, search_id: int, reason: str) -> None:
    with database.write() as session:
        (search,) = lock_searches(session, [search_id])
        fail_search(session, search, reason)


def test_a_search_of_which_every_evaluation_failed_fails_and_says_what_befell_the_last(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3, 4])
    _fail(database, "RuntimeError: the first")
    assert status_of(database, search_id) == "running"
    _fail(database, "RuntimeError: the second")
    (search,) = rows(database, Search)
    assert (search.status, search.ended_by) == ("failed", "failed")
    assert search.ended_at is not None
    told = "all 2 evaluations that ended failed; the last, basic-L8-D4 with seed 0: RuntimeError: the second"
    assert search.problem == told
    assert kinds(database, search_id)[-2:] == ["evaluation_failed", "search_failed"]
    assert rows(database, Event, search_id=search_id)[-1].data == {"reason": told}


def test_one_result_is_enough_to_finish(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3, 4])
    _fail(database, "RuntimeError")
    work(database, claim(database))
    (search,) = rows(database, Search)
    assert (search.status, search.ended_by, search.problem) == ("finished", "failures", None)
    assert kinds(database, search_id)[-1] == "search_finished"


def test_a_float_network_alone_is_no_success(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    lease = claim(database)
    assert train_next_stage(database, lease) == "float"
    with database.write() as session:
        results.fail_evaluation(session, lease, "RuntimeError")
    assert status_of(database, search_id) == "failed"


@pytest.mark.parametrize("failed", [True, False])
def test_at_its_time_limit_a_search_fails_only_if_something_of_it_failed(database: Database, *, failed: bool) -> None:
    search_id = post(database, proposed=True, widths=[3, 4], time_limit_s=1000)
    if failed:
        _fail(database, "RuntimeError: the only one")
    with database.write() as session:
        session.execute(update(Search).values(started_at=database_now() - 1000.0))
    end_at_limits(database)
    (search,) = rows(database, Search)
    assert (search.status, search.ended_by) == (("failed", "failed") if failed else ("finished", "time_limit_s"))
    told = "the only evaluation that ended failed: basic-L8-D3 with seed 0: RuntimeError: the only one"
    assert search.problem == (told if failed else None)
    assert nothing_to_claim(database)
    assert kinds(database, search_id)[-1] == ("search_failed" if failed else "search_finished")


def test_what_a_failed_search_wanted_alone_is_given_up_and_what_others_want_goes_on(database: Database) -> None:
    failing = post(database, proposed=True, widths=[3, 4])
    other = post(database, proposed=True, widths=[4])
    held = claim(database)
    _fail_search(database, failing, "2 of its files cannot be read")
    assert [each.status for each in rows(database, Evaluation)] == ["cancelled", "queued"]
    with pytest.raises(leases.LeaseLost), database.write() as session:
        leases.renew(session, held, 1000.0)
    assert rows(database, Event, search_id=failing)[-1].data == {"reason": "2 of its files cannot be read"}
    work(database, claim(database))
    assert (status_of(database, failing), status_of(database, other)) == ("failed", "finished")


def test_a_search_fails_once_and_not_after_its_end(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    work(database, claim(database))
    _fail_search(database, search_id, "too late")
    (search,) = rows(database, Search)
    assert (search.status, search.problem) == ("finished", None)


def test_a_failed_search_goes_on_when_it_is_extended(database: Database) -> None:
    search_id = post(database, proposed=False, widths=[3, 4], max_evaluations=1)
    assert run_out(database) == 1
    with database.write() as session:
        session.execute(update(Search).values(status="failed", ended_by="failed", problem="as if it had"))
    with database.write() as session:
        extend_search(session, search_id, Limits(max_evaluations=2))
    (search,) = rows(database, Search)
    assert (search.status, search.ended_by, search.problem) == ("running", None, None)
    assert run_out(database) == 1
    assert status_of(database, search_id) == "finished"


def test_a_search_whose_only_evaluation_was_lost_fails(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    for _ in range(leases.MOST_ATTEMPTS):
        end_lease(database, claim(database))
    with database.write() as session:
        leases.bury_lost(session)
    (search,) = rows(database, Search)
    assert search.status == "failed"
    assert search.problem is not None
    assert "died 3 times within an epoch" in search.problem
    assert kinds(database, search_id)[-2:] == ["evaluation_lost", "search_failed"]
