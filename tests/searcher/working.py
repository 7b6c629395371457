"""What tests of workers share: workers here and as processes, waiting for them, and what they stored."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from building import rows, stages_of
from sqlalchemy import text

from searcher.artifacts import Artifacts
from searcher.tables import CurvePoint, Evaluation
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from searcher.database import Database

MOST_SECONDS = 120.0

Curve = list[tuple[int, float | None, float | None, float]]
Results = dict[tuple[str, int, str], tuple[str, float | None, float | None, Curve]]


def worker_settings(folder: Path) -> WorkerSettings:
    return WorkerSettings(data_root=folder / "datasets", artifacts=Artifacts(folder / "artifacts"), poll_seconds=0.01)


def new_worker(database: Database, folder: Path) -> Worker:
    return Worker(database, worker_settings(folder))


def run_to_end(worker: Worker) -> None:
    for _ in range(100):
        if not worker.run_one():
            return
    raise AssertionError("the worker always finds something to do")


def stored_results(database: Database) -> Results:
    """Every stage by architecture, seed and bit widths: status, accuracies and learning curve."""
    found: Results = {}
    for evaluation in rows(database, Evaluation):
        for bits, stage in stages_of(database, evaluation.id).items():
            curve = [
                (point.epoch, point.train_loss, point.validation_accuracy, point.learning_rate)
                for point in rows(database, CurvePoint, stage_id=stage.id)
            ]
            found[evaluation.architecture, evaluation.seed, bits] = (
                stage.status,
                stage.validation_accuracy,
                stage.test_accuracy,
                curve,
            )
    return found


def wait_until(condition: Callable[[], bool], log: Callable[[], str] = lambda: "") -> None:
    pause, last = threading.Event(), time.monotonic() + MOST_SECONDS
    while not condition():
        assert time.monotonic() < last, f"never happened; {log()}"
        pause.wait(0.05)


@contextmanager
def worker_process(
    database: Database, home: Path, *options: str, lease_seconds: int = 1, program: Sequence[str] = ("-m", "service")
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as users start it; killed at the end if it is still there."""
    environment = os.environ | {
        "QUANTRANK_HOME": str(home),
        "QUANTRANK_DATABASE_URL": database.url.render_as_string(hide_password=False),
        "QUANTRANK_ARTIFACTS": str(home / "artifacts"),
        "QUANTRANK_LEASE_SECONDS": str(lease_seconds),
    }
    with (home / "worker.log").open("ab") as log:
        command = [sys.executable, *program, "worker", *options]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(MOST_SECONDS)


def log_epochs(database: Database) -> None:
    """Lets the database note every curve point that is written, with the attempt that wrote it."""
    noted = (
        "INSERT INTO noted (stage_id, epoch, attempt) SELECT NEW.stage_id, NEW.epoch, evaluations.attempt "
        "FROM stages JOIN evaluations ON evaluations.id = stages.evaluation_id WHERE stages.id = NEW.stage_id;"
    )
    if database.embedded:
        statements = [
            "CREATE TABLE noted (id INTEGER PRIMARY KEY, stage_id INTEGER, epoch INTEGER, attempt INTEGER)",
            *(
                f"CREATE TRIGGER on_{each} AFTER {each} ON curve_points BEGIN {noted} END"
                for each in ("INSERT", "UPDATE")
            ),
        ]
    else:
        statements = [
            "CREATE TABLE noted (id SERIAL PRIMARY KEY, stage_id BIGINT, epoch INTEGER, attempt INTEGER)",
            f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {noted} RETURN NEW; END $$",
            "CREATE TRIGGER note AFTER INSERT OR UPDATE ON curve_points FOR EACH ROW EXECUTE FUNCTION note()",
        ]
    with database.write() as session:
        for statement in statements:
            session.connection().exec_driver_sql(statement)


def noted(database: Database) -> list[tuple[int, int, int]]:
    """(stage, epoch, attempt) of every recorded epoch, in their order."""
    with database.read() as session:
        return [tuple(row) for row in session.execute(text("SELECT stage_id, epoch, attempt FROM noted ORDER BY id"))]
