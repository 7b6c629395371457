"""Leases: one holder at a time, and nothing written by a former one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from building import (
    accept_stage,
    at_once,
    claim,
    contents,
    end_lease,
    kinds,
    nothing_to_claim,
    post,
    propose_candidates,
    record_epoch,
    rows,
    stages_of,
    status_of,
    train_next_stage,
    unproposed_candidates,
    work,
)
from sqlalchemy import event, select, text

from searcher import leases, results
from searcher.database import database_now
from searcher.events import lock_searches
from searcher.leases import MOST_ATTEMPTS, Lease, LeaseLost
from searcher.proposals import propose
from searcher.searches import cancel_search
from searcher.tables import Evaluation

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from searcher.database import Database

THREADS = 8


def _evaluation(database: Database, evaluation_id: int) -> Evaluation:
    (found,) = rows(database, Evaluation, id=evaluation_id)
    return found


def _now(database: Database) -> float:
    with database.read() as session:
        return session.scalars(select(database_now())).one()


def _bury(database: Database) -> None:
    with database.write() as session:
        leases.bury_lost(session)


def _die(database: Database, times: int) -> Lease:
    """Claims the same evaluation again and again, each holder dying."""
    for _ in range(times):
        lease = claim(database)
        end_lease(database, lease)
    return lease


def test_every_queued_evaluation_is_claimed_by_exactly_one_of_many_at_once(database: Database) -> None:
    post(database, proposed=True, widths=list(range(3, 43)), parameter_budget=1_000_000)

    def claim_all() -> list[Lease]:
        taken = []
        while True:
            with database.write() as session:
                lease = leases.claim(session, "worker", 1000.0)
            if lease is None:
                return taken
            taken.append(lease)

    taken = [lease for each in at_once(*[claim_all] * THREADS) for lease in each]
    evaluations = rows(database, Evaluation)
    assert len(evaluations) == 40
    assert Counter(lease.evaluation_id for lease in taken) == Counter(each.id for each in evaluations)
    assert {lease.evaluation_id: lease.token for lease in taken} == {each.id: each.lease_token for each in evaluations}
    assert {(each.status, each.attempt) for each in evaluations} == {("running", 1)}


def test_a_claim_takes_one_row_while_others_are_being_claimed(postgres_database: Database) -> None:
    post(postgres_database, proposed=True)
    with postgres_database.write() as one:
        first = leases.claim(one, "one", 1000.0)
        with postgres_database.write() as other:  # while the first claim holds its row locked
            second = leases.claim(other, "other", 1000.0)
    assert first is not None
    assert second is not None
    evaluations = rows(postgres_database, Evaluation)
    assert [each.lease_token for each in evaluations] == [first.token, second.token, None, None, None]


def test_what_a_claim_selects_is_materialized(postgres_database: Database) -> None:
    """Else PostgreSQL may select again for every row that it looks at, and lock several."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    post(postgres_database, proposed=True)
    event.listen(postgres_database.engine, "before_cursor_execute", note)
    claim(postgres_database)
    event.remove(postgres_database.engine, "before_cursor_execute", note)
    (claiming,) = [each for each in asked if each[0].count("UPDATE evaluations")]
    assert "first AS MATERIALIZED" in claiming[0]
    with postgres_database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN {claiming[0]}", claiming[1]).scalars().all()
    assert sum("CTE Scan on first" in line for line in plan) == 1
    assert sum("LockRows" in line for line in plan) == 1


def test_an_ended_lease_is_taken_over_by_exactly_one_of_many_at_once(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    end_lease(database, claim(database))

    def take_over() -> Lease | None:
        with database.write() as session:
            return leases.claim(session, "worker", 1000.0)

    taken = [lease for lease in at_once(*[take_over] * THREADS) if lease is not None]
    assert len(taken) == 1
    assert _evaluation(database, taken[0].evaluation_id).attempt == 2


def test_evaluations_are_claimed_in_the_order_in_which_they_were_proposed(database: Database) -> None:
    post(database, proposed=True)
    claimed = [claim(database).evaluation_id for _ in range(5)]
    assert claimed == [each.id for each in rows(database, Evaluation)]
    assert nothing_to_claim(database)


def test_a_claim_is_written_with_its_worker_and_its_end_by_the_database_clock(database: Database) -> None:
    post(database, proposed=True)
    before = _now(database)
    lease = claim(database, seconds=500.0, worker_id="w" * 32)
    evaluation = _evaluation(database, lease.evaluation_id)
    assert (evaluation.status, evaluation.worker_id, evaluation.attempt) == ("running", "w" * 32, 1)
    assert evaluation.lease_ends is not None
    assert before + 500.0 <= evaluation.lease_ends <= _now(database) + 500.0


def test_a_claimed_evaluation_is_not_claimable_until_its_lease_has_ended(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lease = claim(database)
    assert nothing_to_claim(database)
    end_lease(database, lease)
    taken_over = claim(database, worker_id="another")
    assert taken_over.evaluation_id == lease.evaluation_id
    assert taken_over.token != lease.token
    evaluation = _evaluation(database, lease.evaluation_id)
    assert (evaluation.attempt, evaluation.worker_id) == (2, "another")
    assert nothing_to_claim(database)


def test_an_evaluation_is_claimed_by_its_number_by_exactly_one_of_many_at_once(database: Database) -> None:
    post(database, proposed=True)
    wanted = rows(database, Evaluation)[2].id

    def take() -> Lease | None:
        with database.write() as session:
            return leases.claim_evaluation(session, wanted, "worker", 1000.0)

    for attempt in range(1, MOST_ATTEMPTS + 1):
        taken = [lease for lease in at_once(*[take] * THREADS) if lease is not None]
        assert [lease.evaluation_id for lease in taken] == [wanted]
        assert _evaluation(database, wanted).attempt == attempt
        assert take() is None
        end_lease(database, taken[0])
    assert take() is None  # as often as allowed
    assert [each.status for each in rows(database, Evaluation)].count("queued") == 4


def test_each_engine_takes_what_its_own_searches_want(database: Database) -> None:
    on_ray = post(database, proposed=True, engine="ray", widths=[3, 4])
    post(database, proposed=True, widths=[4, 5])
    three, four, five = (each.id for each in rows(database, Evaluation))

    def claimable(engine: str, limit: int = 10) -> list[int]:
        with database.read() as session:
            return [each.id for each in leases.claimable(session, engine, limit)]

    assert (claimable("ray"), claimable("optuna"), claimable("ray", 1)) == ([three, four], [four, five], [three])
    shared = claim(database)
    assert shared.evaluation_id == four
    assert (claimable("ray"), claimable("optuna")) == ([three], [five])
    assert claim(database).evaluation_id == five
    assert nothing_to_claim(database)
    end_lease(database, shared)
    assert (claimable("ray"), claimable("optuna")) == ([three, four], [four])
    with database.write() as session:
        cancel_search(session, on_ray)
    assert claimable("ray") == []
    assert _evaluation(database, four).status == "running"


WRITES: dict[str, Callable[[Session, Lease, int], Any]] = {
    "renew": lambda session, lease, _: leases.renew(session, lease, 1000.0),
    "held": lambda session, lease, _: leases.held(session, lease),
    "release": lambda session, lease, _: leases.release(session, lease),
    "start_evaluation": lambda session, lease, _: results.start_evaluation(session, lease),
    "next_stage": lambda session, lease, _: results.next_stage(session, lease),
    "record_epoch": record_epoch,
    "accept_stage": accept_stage,
    "fail_evaluation": lambda session, lease, _: results.fail_evaluation(session, lease, "out of memory"),
}


def _assert_every_write_is_refused(database: Database, lease: Lease) -> None:
    stage = stages_of(database, lease.evaluation_id)["float"]
    before = contents(database)
    for name, write in WRITES.items():
        refused = False
        try:
            with database.write() as session:
                write(session, lease, stage.id)
        except LeaseLost:
            refused = True
        assert refused, name
        assert contents(database) == before, name


def test_whoever_lost_the_lease_writes_nothing(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lost = claim(database)
    end_lease(database, lost)
    claim(database, worker_id="another")
    _assert_every_write_is_refused(database, lost)


def test_a_lease_that_was_handed_back_writes_nothing(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lease = claim(database)
    with database.write() as session:
        leases.release(session, lease)
    _assert_every_write_is_refused(database, lease)


def test_a_lease_on_an_evaluation_that_ended_writes_nothing(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lease = claim(database)
    work(database, lease)
    _assert_every_write_is_refused(database, lease)


def test_nobody_holds_an_evaluation_that_does_not_exist(database: Database) -> None:
    with pytest.raises(LeaseLost), database.write() as session:
        leases.held(session, Lease(1234, "token"))
    with pytest.raises(LeaseLost), database.write() as session:
        leases.renew(session, Lease(1234, "token"), 5.0)


def test_a_write_of_the_holder_keeps_others_from_taking_over_in_the_middle_of_it(postgres_database: Database) -> None:
    post(postgres_database, proposed=True, widths=[3])
    lease = claim(postgres_database)
    stage = stages_of(postgres_database, lease.evaluation_id)["float"]
    end_lease(postgres_database, lease)
    with postgres_database.write() as session:
        record_epoch(session, lease, stage.id)
        assert nothing_to_claim(postgres_database)
    assert claim(postgres_database).evaluation_id == lease.evaluation_id


def test_a_released_evaluation_is_queued_and_its_attempt_does_not_count(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    for _ in range(MOST_ATTEMPTS + 2):
        lease = claim(database)
        assert _evaluation(database, lease.evaluation_id).attempt == 1
        with database.write() as session:
            leases.release(session, lease)
        evaluation = _evaluation(database, lease.evaluation_id)
        assert (evaluation.status, evaluation.attempt) == ("queued", 0)
        assert (evaluation.lease_token, evaluation.lease_ends) == (None, None)


def test_an_evaluation_is_given_up_after_the_last_attempt_and_its_search_ends(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    lease = _die(database, MOST_ATTEMPTS)
    assert nothing_to_claim(database)
    _bury(database)
    evaluation = _evaluation(database, lease.evaluation_id)
    assert (evaluation.status, evaluation.attempt, evaluation.lease_token) == ("lost", MOST_ATTEMPTS, None)
    assert evaluation.error is not None
    assert "died 3 times" in evaluation.error
    assert evaluation.ended_at is not None
    assert status_of(database, search_id) == "failed"
    assert kinds(database, search_id)[-2:] == ["evaluation_lost", "search_failed"]
    with pytest.raises(LeaseLost), database.write() as session:
        leases.renew(session, lease, 1000.0)


def test_a_search_with_other_evaluations_goes_on_after_a_lost_one(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3, 4])
    first = claim(database)
    end_lease(database, first)
    for _ in range(MOST_ATTEMPTS - 1):
        assert claim(database).evaluation_id == first.evaluation_id
        end_lease(database, first)
    _bury(database)
    assert status_of(database, search_id) == "running"
    work(database, claim(database))
    assert status_of(database, search_id) == "finished"
    assert [each.status for each in rows(database, Evaluation)] == ["lost", "done"]


def test_burying_leaves_alone_what_is_held_or_may_be_tried_again(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lease = _die(database, MOST_ATTEMPTS - 1)
    before = contents(database)
    _bury(database)
    assert contents(database) == before
    lease = claim(database)
    before = contents(database)
    _bury(database)
    assert contents(database) == before
    with database.write() as session:
        leases.held(session, lease)


def test_an_evaluation_is_buried_once_by_many_at_once(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    _die(database, MOST_ATTEMPTS)
    at_once(*[lambda: _bury(database)] * THREADS)
    assert kinds(database, search_id).count("evaluation_lost") == 1


def test_a_lost_evaluation_is_tried_again_for_a_new_search(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lost = _die(database, MOST_ATTEMPTS)
    _bury(database)
    again = post(database, widths=[3])
    propose_candidates(database, again)
    lease = claim(database)
    assert lease.evaluation_id == lost.evaluation_id
    evaluation = _evaluation(database, lease.evaluation_id)
    assert (evaluation.attempt, evaluation.error, evaluation.ended_at) == (1, None, None)
    work(database, lease)
    assert status_of(database, again) == "finished"


def test_renewing_lets_the_lease_end_later_by_the_database_clock(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lease = claim(database, seconds=1000.0)
    end_lease(database, lease)
    before = _now(database)
    with database.write() as session:
        leases.renew(session, lease, 700.0)
    ends = _evaluation(database, lease.evaluation_id).lease_ends
    assert ends is not None
    assert before + 700.0 <= ends <= _now(database) + 700.0
    assert nothing_to_claim(database)


def test_the_database_clock_counts_seconds_since_1970(database: Database) -> None:
    assert abs(_now(database) - time.time()) < 60.0


def test_the_database_clock_goes_on_within_a_transaction(database: Database) -> None:
    with database.read() as session:
        first = session.scalars(select(database_now())).one()
        assert any(session.scalars(select(database_now())).one() > first for _ in range(100_000))


def test_an_evaluation_that_gets_further_each_time_is_not_lost(database: Database) -> None:
    post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4", "W8A8", "W3A3"])
    for bit_widths in ("float", "W2A2", "W4A4", "W8A8"):
        lease = claim(database)
        assert train_next_stage(database, lease) == bit_widths
        end_lease(database, lease)
    _bury(database)
    assert _evaluation(database, 1).status == "running"
    assert work(database, claim(database)) == ["W3A3"]


def test_a_search_that_comes_while_the_last_stage_ends_has_its_stages_trained(postgres_database: Database) -> None:
    """It proposes, uncommitted, while the worker has looked who wants the evaluation and waits for its row."""
    database = postgres_database
    post(database, proposed=True, widths=[3], bit_widths=["W2A2"])
    lease = claim(database)
    assert [train_next_stage(database, lease) for _ in range(2)] == ["float", "W2A2"]
    second = post(database, widths=[3], bit_widths=["W4A4"])
    found: list[str | None] = []
    finishing = threading.Thread(target=lambda: found.append(train_next_stage(database, lease)))
    with database.write() as session:
        search = lock_searches(session, [second])[0]
        propose(session, search, unproposed_candidates(session, search)[0])
        finishing.start()
        _until(lambda: _waiting_for_locks(database) > 0)
    finishing.join(30)
    assert found == ["W4A4"]
    assert work(database, lease) == []
    assert status_of(database, second) == "finished"


def test_cancelling_spares_what_another_search_is_just_proposing(postgres_database: Database) -> None:
    database = postgres_database
    first = post(database, proposed=True, widths=[3], bit_widths=["W2A2"])
    second = post(database, widths=[3], bit_widths=["W2A2"])

    def cancel() -> None:
        with database.write() as session:
            cancel_search(session, first)

    cancelling = threading.Thread(target=cancel)
    with database.write() as session:
        search = lock_searches(session, [second])[0]
        propose(session, search, unproposed_candidates(session, search)[0])
        cancelling.start()
        _until(lambda: _waiting_for_locks(database) > 0)
    cancelling.join(30)
    assert (status_of(database, first), status_of(database, second)) == ("cancelled", "running")
    assert _evaluation(database, 1).status == "queued"


def test_burying_takes_the_locks_of_several_searches_in_their_order(postgres_database: Database) -> None:
    """Lost evaluations 1 and 2 are wanted by searches 2 and 1, while another transaction locks search 1, then 2."""
    database = postgres_database
    first, second = post(database, widths=[3]), post(database, widths=[4])
    propose_candidates(database, second)
    propose_candidates(database, first)
    for _ in range(leases.MOST_ATTEMPTS):
        held_now = [claim(database) for _ in range(2)]
        for lease in held_now:
            end_lease(database, lease)
    burying = threading.Thread(target=_bury, args=(database,))
    with database.write() as session:
        lock_searches(session, [first])
        burying.start()
        # PostgreSQL itself says when the other waits for a lock of ours.
        _until(lambda: _waiting_for_locks(database) > 0)
        lock_searches(session, [second])
    burying.join(30)
    assert [row.status for row in rows(database, Evaluation)] == ["lost", "lost"]


def _waiting_for_locks(database: Database) -> int:
    with database.read() as session:
        return session.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one()


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("the condition never came true")
