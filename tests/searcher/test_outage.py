"""Workers whose database goes away in the middle of a training, and comes back."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from building import post, recipe, rows, status_of
from networks import Network
from sqlalchemy import event

from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.tables import CurvePoint, Evaluation
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings


class Heard(logging.Handler):
    """Waits until a message is logged."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning, self.said = beginning, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self._beginning):
            self.said.set()


@pytest.mark.slow
def test_what_was_trained_is_stored_when_the_database_answers_again(
    far_database: Database,
    postgres_database: Database,
    network: Network,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    search_id = post(postgres_database, parameter_budget=4000, widths=[3], recipe=recipe(3, 1))
    settings = WorkerSettings(data_root=tmp_path, artifacts=Artifacts(tmp_path / "artifacts"), poll_seconds=0.01)
    worker = Worker(far_database, settings)
    heard = Heard("the database does not answer; waiting for it")

    def lose(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO curve_points" in statement and not heard.said.is_set():
            network.open.clear()

    event.listen(far_database.engine, "before_cursor_execute", lose)
    logging.getLogger("searcher").addHandler(heard)

    def work() -> None:
        while status_of(postgres_database, search_id) == "running":
            worker.run_one()

    training = threading.Thread(target=work, daemon=True)
    training.start()
    assert heard.said.wait(60)
    assert training.is_alive()
    network.open.set()
    training.join(120)
    logging.getLogger("searcher").removeHandler(heard)

    assert status_of(postgres_database, search_id) == "finished"
    (evaluation,) = rows(postgres_database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("done", 1)
    assert len(rows(postgres_database, CurvePoint)) == 3 + 1
    assert caplog.text.count("the database does not answer") == caplog.text.count("the database answers again") == 1
