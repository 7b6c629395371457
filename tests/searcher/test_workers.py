"""What the database knows of workers, and that evaluations go to those that can train them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from building import claim, end_lease, post, propose_candidates, rows, stages_of
from sqlalchemy import update
from working import worker_settings

from qcore.devices import usable_cores
from qcore.provenance import versions
from searcher import leases, results, workers
from searcher.database import database_now
from searcher.next_proposal import propose_next
from searcher.progress import progress
from searcher.results import OtherRelease
from searcher.tables import Evaluation, MissingData, Proposal, Search, Stage, Worker

if TYPE_CHECKING:
    from searcher.database import Database
    from searcher.workers import WorkerStatus

LACKS = "task: 'digits' lacks a file; put it there"


def _register(database: Database, worker_id: str) -> None:
    with database.write() as session:
        workers.register(session, worker_id, worker_settings(Path("unused")))


def _change(database: Database, worker_id: str, **values: Any) -> None:
    with database.write() as session:
        session.execute(update(Worker).where(Worker.id == worker_id).values(values))


def _lose_sight_of(database: Database, worker_id: str, seconds: float = 16.0) -> None:
    _change(database, worker_id, heartbeat_at=database_now() - seconds)


def _lacks(database: Database, worker_id: str, task: str = "digits") -> None:
    (version,) = {search.task_version for search in rows(database, Search)}
    with database.write() as session:
        workers.note_missing(session, worker_id, task, version, LACKS)


def _listed(database: Database) -> list[WorkerStatus]:
    with database.read() as session:
        return workers.list_workers(session)


def _statuses(database: Database) -> dict[str, str]:
    return {each.worker.id: each.status for each in _listed(database)}


def _waits_for(database: Database, search_id: int) -> str | None:
    with database.read() as session:
        return progress(session, session.get_one(Search, search_id)).waits_for


def _claims(database: Database, worker_id: str) -> bool:
    with database.write() as session:
        lease = leases.claim(session, worker_id, 1000.0)
        session.rollback()
    return lease is not None


def test_a_worker_says_what_it_has(database: Database) -> None:
    _register(database, "one")
    (found,) = _listed(database)
    worker = found.worker
    assert (worker.host, worker.pid, worker.device) == (socket.gethostname(), os.getpid(), "cpu")
    assert worker.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (worker.cores, worker.threads, worker.versions) == (usable_cores(), 1, versions())
    assert (found.status, found.evaluation, found.missing) == ("idle", None, [])


def test_workers_work_idle_are_gone_or_have_ended(database: Database) -> None:
    post(database, proposed=True)
    lease = claim(database, worker_id="works")
    for worker_id in ("works", "idles", "gone", "long gone", "ended", "lives"):
        _register(database, worker_id)
    with database.write() as session:
        workers.beat(session, "works", lease.evaluation_id)
        workers.beat(session, "gone", lease.evaluation_id)
        workers.end(session, "ended")
    _lose_sight_of(database, "gone")
    _lose_sight_of(database, "lives", 14.0)
    _lose_sight_of(database, "long gone", 25 * 3600.0)
    expected = {"works": "working", "idles": "idle", "gone": "gone", "lives": "idle"}
    assert _statuses(database) == expected
    work = {each.worker.id: each.evaluation for each in _listed(database)}
    assert work["works"] is not None
    assert (work["works"].id, work["works"].architecture) == (lease.evaluation_id, "basic-L8-D3")
    assert work["gone"] is None
    with database.write() as session:
        workers.beat(session, "gone", None)
    assert _statuses(database)["gone"] == "idle"


def test_evaluations_of_a_task_whose_data_a_worker_lacks_go_to_others(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    _lacks(database, "poor", task="cifar10")  # another task
    assert _claims(database, "poor")
    _lacks(database, "poor")
    assert not _claims(database, "poor")
    lease = claim(database, worker_id="rich")
    end_lease(database, lease)
    assert not _claims(database, "poor")
    assert _claims(database, "rich")
    (search,) = rows(database, Search)
    with database.write() as session:
        workers.forget_missing(session, "poor", "digits", search.task_version)
    assert _claims(database, "poor")


def test_a_worker_proposes_nothing_for_a_search_that_it_could_not_train(database: Database) -> None:
    post(database)
    _lacks(database, "poor")
    assert not propose_next(database, worker_id="poor")
    assert rows(database, Proposal) == []
    assert propose_next(database, worker_id="rich")
    assert len(rows(database, Proposal)) == 1


def test_a_search_says_why_no_worker_can_train_it(database: Database) -> None:
    search_id = post(database)
    assert _waits_for(database, search_id) == workers.NO_WORKER
    _register(database, "one")
    assert _waits_for(database, search_id) is None
    _lacks(database, "one")
    told = _waits_for(database, search_id)
    assert told == f"no worker has its data; on {socket.gethostname()}: {LACKS}"
    _register(database, "two")
    assert _waits_for(database, search_id) is None
    _lose_sight_of(database, "two")
    assert _waits_for(database, search_id) == told
    with database.write() as session:
        workers.beat(session, "two", None)
    assert _waits_for(database, search_id) is None
    with database.write() as session:
        workers.end(session, "two")
    assert _waits_for(database, search_id) == told
    with database.write() as session:
        session.execute(update(Search).values(status="cancelled"))
    assert _waits_for(database, search_id) is None


def test_what_a_worker_lacked_is_forgotten_with_it(database: Database) -> None:
    post(database)
    _register(database, "one")
    _lacks(database, "one")
    _lacks(database, "one")
    assert [each.problem for each in _listed(database)[0].missing] == [LACKS]
    with database.write() as session:
        workers.end(session, "one")
    assert rows(database, MissingData) == []


def test_evaluations_of_another_release_are_left_to_its_workers(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    _register(database, "one")
    with database.write() as session:
        session.execute(update(Evaluation).values(numerics_version=-1))
        session.execute(update(Search).values(numerics_version=-1))
    assert not _claims(database, "one")
    told = "no worker is of the release it was posted with (numerics version -1)"
    assert _waits_for(database, search_id) == told
    assert not propose_next(database, worker_id="one")
    assert rows(database, MissingData) == []  # others of its task may well be for this release
    _change(database, "one", versions=versions() | {"numerics": -1})
    assert _waits_for(database, search_id) is None


def test_a_search_over_another_version_of_a_task_is_left_to_others_who_are_told_why(database: Database) -> None:
    search_id = post(database)
    _register(database, "one")
    with database.write() as session:
        session.execute(update(Search).values(task_version="99"))
    assert not propose_next(database, worker_id="one")
    told = _waits_for(database, search_id)
    assert told is not None
    assert "'digits' version 99 is not what this release trains; run the same release" in told


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (Evaluation, {"task": "unheard-of"}),
        (Evaluation, {"architecture": "spiral-L8-D3"}),
        (Stage, {"key": "another"}),
        (Stage, {"recipe": {"name": "of another kind"}}),
    ],
)
def test_a_stage_that_this_release_would_train_otherwise_is_refused(
    database: Database, table: Any, values: dict[str, Any]
) -> None:
    post(database, proposed=True, widths=[3])
    lease = claim(database)
    stage = stages_of(database, lease.evaluation_id)["float"]
    with database.write() as session:
        of_stage = table.id == (stage.id if table is Stage else lease.evaluation_id)
        session.execute(update(table).where(of_stage).values(values))
    with database.write() as session:
        following = results.next_stage(session, lease)
    assert following is not None
    with pytest.raises(OtherRelease, match="is not what this release trains") as refused:
        _ = following.plan
    assert "run the same release" in refused.value.remedy


def test_a_dead_workers_evaluations_are_free_at_once_and_it_writes_nothing(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4])
    held = claim(database, worker_id="dead")
    others = claim(database, worker_id="alive")
    assert not _claims(database, "another")
    with database.write() as session:
        leases.end_leases(session, "dead")
    with pytest.raises(leases.LeaseLost), database.write() as session:
        leases.renew(session, held, 1000.0)
    taken = claim(database, worker_id="another")
    assert taken.evaluation_id == held.evaluation_id
    evaluation = rows(database, Evaluation)[0]
    assert (evaluation.worker_id, evaluation.attempt, evaluation.fruitless_attempts) == ("another", 2, 2)
    with database.write() as session:
        leases.end_leases(session, "dead")  # told late: it holds nothing any more
        leases.held(session, taken)
        leases.held(session, others)


def test_deaths_that_a_supervisor_saw_count_as_attempts(database: Database) -> None:
    search_id = post(database, widths=[3])
    propose_candidates(database, search_id)
    for attempt in range(leases.MOST_ATTEMPTS):
        claim(database, worker_id=f"worker {attempt}")
        with database.write() as session:
            leases.end_leases(session, f"worker {attempt}")
    with database.write() as session:
        leases.bury_lost(session)
    assert [each.status for each in rows(database, Evaluation)] == ["lost"]
