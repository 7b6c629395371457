"""Workers that are stopped within an epoch, or hang: what they have is handed back before anybody kills them."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from building import claim, post, recipe, rows, status_of
from sqlalchemy import update
from working import MOST_SECONDS, wait_until, worker_process

from searcher import leases
from searcher.database import database_now
from searcher.searches import cancel_search
from searcher.tables import CurvePoint, Evaluation
from searcher.tables import Worker as WorkerRow

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from searcher.database import Database

DOCKER_KILLS_AFTER = 10.0
LONG_EPOCH = {
    "parameter_budget": 10_000_000,
    "blocks": ["basic"],
    "depths": [20],
    "widths": [64],
    "bit_widths": ["W2A2"],
    "recipe": {"float_part": {"batch_size": 16, "schedule": {"epochs": 1, "warmup_epochs": 0}}},
}
"""Some minutes an epoch, a second a step at most."""
HANGS = """
import os, sys
from dataclasses import replace
from service.cli import main
from service.settings import Settings
from searcher import execution

for_workers = Settings.for_workers
Settings.for_workers = lambda self, *rest: replace(for_workers(self, *rest), hang_seconds=0.5)
execution.load_data = lambda *_: open(os.environ["FIFO"])
sys.exit(main(sys.argv[1:]))
"""
"""A worker that waits for data which nobody sends."""


def _log_of(home: Path) -> Callable[[], str]:
    return lambda: (home / "worker.log").read_text()


def _wait_for_training(home: Path, process: subprocess.Popen[bytes]) -> None:
    log = _log_of(home)
    wait_until(lambda: ": training" in log() or process.poll() is not None, log)
    assert process.poll() is None, log()


def _attempts(database: Database) -> list[tuple[str, int, int, str | None]]:
    found = rows(database, Evaluation)
    return [(each.status, each.attempt, each.fruitless_attempts, each.lease_token) for each in found]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([signal.SIGTERM], id="stopped"),
        pytest.param([signal.SIGINT, signal.SIGTERM], id="Ctrl-C", marks=pytest.mark.slow),
    ],
)
def test_a_worker_is_stopped_between_two_steps_and_no_attempt_is_counted(
    database: Database, tmp_path: Path, told: list[signal.Signals]
) -> None:
    post(database, proposed=True, **LONG_EPOCH)
    with database.write() as session:
        session.execute(update(Evaluation).values(attempt=1, fruitless_attempts=1))
    with worker_process(database, tmp_path) as process:
        _wait_for_training(tmp_path, process)
        begun = time.monotonic()
        for each in told:
            process.send_signal(each)
        assert process.wait(MOST_SECONDS) == 0, _log_of(tmp_path)()
        assert time.monotonic() - begun < DOCKER_KILLS_AFTER
    assert _attempts(database) == [("queued", 1, 1, None)]
    assert rows(database, CurvePoint) == []
    (worker,) = rows(database, WorkerRow)
    assert worker.stopped_at is not None


@pytest.mark.slow
def test_a_worker_whose_thread_hangs_hands_back_all_the_same(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("FIFO", str(tmp_path / "fifo"))
    post(database, proposed=True, widths=[3], recipe=recipe(1, 1))
    with worker_process(database, tmp_path, program=("-c", HANGS)) as process:
        _wait_for_training(tmp_path, process)
        begun = time.monotonic()
        process.terminate()
        assert process.wait(MOST_SECONDS) == 0, _log_of(tmp_path)()
        assert time.monotonic() - begun < DOCKER_KILLS_AFTER
    assert _attempts(database) == [("queued", 0, 0, None)]
    (worker,) = rows(database, WorkerRow)
    assert worker.stopped_at is not None


@pytest.mark.slow
def test_a_worker_that_hangs_ends_once_its_evaluation_was_cancelled(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setenv("FIFO", str(tmp_path / "fifo"))
    search_id = post(database, proposed=True, widths=[3], recipe=recipe(1, 1))
    log = _log_of(tmp_path)
    with worker_process(database, tmp_path, program=("-c", HANGS)) as process:
        _wait_for_training(tmp_path, process)
        with database.write() as session:
            cancel_search(session, search_id)
        assert process.wait(MOST_SECONDS) == 1, log()
    assert "it hangs" in log()
    assert status_of(database, search_id) == "cancelled"


def test_what_a_stopped_worker_holds_is_free_and_its_own_thread_writes_no_more(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4])
    mine, others = claim(database, worker_id="stopped"), claim(database, worker_id="another")
    with database.write() as session:
        leases.release_all(session, "stopped")
    for write in (leases.held, leases.release):
        with pytest.raises(leases.LeaseLost), database.write() as session:
            write(session, mine)
    with database.write() as session:
        leases.held(session, others)
        leases.release_all(session, "stopped")  # told twice: it holds nothing any more
    assert [(status, attempt, fruitless) for status, attempt, fruitless, _ in _attempts(database)] == [
        ("queued", 0, 0),
        ("running", 1, 1),
    ]


def test_progress_within_a_claim_is_not_taken_back_with_it(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    claim(database, worker_id="stopped")
    with database.write() as session:  # as an epoch does that is recorded
        session.execute(update(Evaluation).values(fruitless_attempts=0, lease_ends=database_now() + 9.0))
        leases.release_all(session, "stopped")
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.attempt, evaluation.fruitless_attempts, evaluation.lease_ends) == (0, 0, None)
