"""A server with something of everything, for programs that go through all of its API."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "service")]

from live import serving
from playing import play_worker

from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.schema import upgrade
from searcher.searches import cancel_search, create_search
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from searcher.workers import register
from service.app import create_app
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

ASKED = {"task": "digits", "parameter_budget": 20_000, "bit_widths": ["W2A2"]}
_EPOCH = {"schedule": {"epochs": 1, "warmup_epochs": 0}}


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server: search 1 is trained, 2 finished, 3 cancelled, 4 runs; two workers are idle."""
    folder = Path(tempfile.mkdtemp(prefix="quantrank-fuzz-"))
    database = Database(f"sqlite:///{folder / 'quantrank.db'}")
    upgrade(database)
    _fill(database, folder)
    settings = Settings(
        home=folder,
        database_url=None,
        artifacts=str(folder / "artifacts"),
        requests_per_minute=1_000_000,
        refused_keys_per_minute=1_000_000,
    )
    app = create_app(settings, database)
    with serving(app) as url, _streams_that_end(app, database):
        yield url
    database.dispose()
    shutil.rmtree(folder)


def _fill(database: Database, folder: Path) -> None:
    _post(database, architectures=["basic-L8-D3"], recipe={"float_part": _EPOCH, "retraining": _EPOCH})
    worker = Worker(database, WorkerSettings(folder / "datasets", Artifacts(folder / "artifacts")))
    while worker.run_one():
        pass
    play_worker(database, _post(database, architectures=["basic-L8-D4", "preact-L8-D3"]))
    cancelled = _post(database, depths=[8])
    _post(database, depths=[14])
    with database.write() as session:
        cancel_search(session, cancelled)
        for each in "ab":
            register(session, each, WorkerSettings(folder, Artifacts(folder)))


def _post(database: Database, **fields: object) -> int:
    with database.write() as session:
        return create_search(session, plan(SearchRequest.model_validate(ASKED | fields))).id


@contextmanager
def _streams_that_end(app: FastAPI, database: Database) -> Iterator[None]:
    """Cancels searches that somebody watches: a stream that goes on for ever could not be checked."""
    ended = threading.Event()

    def end_watched() -> None:
        while not ended.wait(0.02):
            for search_id in list(app.state.feed.watched):
                with database.write() as session:
                    cancel_search(session, search_id)

    thread = threading.Thread(target=end_watched)
    thread.start()
    yield
    ended.set()
    thread.join()
