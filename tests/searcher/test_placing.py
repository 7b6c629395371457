"""Engines place evaluations that really train, with the same results; what else is their contract: ``test_engines``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from building import end_lease, kinds, post, recipe, rows, stages_of, status_of

from searcher.artifacts import Artifacts, checkpoint_file
from searcher.leaderboard import search_leaderboard
from searcher.leases import Lease
from searcher.progress import progress
from searcher.ray_tune.cluster import Share
from searcher.ray_tune.driver import Driver
from searcher.ray_tune.presence import DEVICE
from searcher.tables import CurvePoint, Evaluation, Search
from searcher.tables import Worker as WorkerRow
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from searcher.database import Database
    from searcher.leaderboard import Entry

MOST_SECONDS = 120.0
ONE_CORE = Share(cpus=1)
SMALL_STORE = {"object_store_memory": 80_000_000}
THREE = {"parameter_budget": 10_000, "blocks": ["basic"], "depths": [8], "widths": [3, 4, 5]}
LONG = {**THREE, "widths": [3], "recipe": recipe(1000, 1)}


class Place(Protocol):
    """Starts what places evaluations, for as long as the block lasts, and stops it as a user would."""

    def __call__(self, database: Database, folder: Path) -> AbstractContextManager[None]: ...


def _settings(folder: Path, lease_seconds: float = 15.0) -> WorkerSettings:
    return WorkerSettings(
        data_root=folder / "datasets",
        artifacts=Artifacts(folder / "artifacts"),
        poll_seconds=0.05,
        lease_seconds=lease_seconds,
    )


@contextmanager
def _running(of: Worker | Driver) -> Iterator[None]:
    thread = threading.Thread(target=of.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        of.stop()
        thread.join(MOST_SECONDS)
        assert not thread.is_alive()


def _by_worker(database: Database, folder: Path) -> AbstractContextManager[None]:
    return _running(Worker(database, _settings(folder)))


def _by_ray(
    database: Database, folder: Path, share: Share = ONE_CORE, lease_seconds: float = 15.0
) -> AbstractContextManager[None]:
    return _running(Driver(database, _settings(folder, lease_seconds), share))


@pytest.fixture(params=["optuna", "ray"])
def engine(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def place(engine: str, request: pytest.FixtureRequest) -> Place:
    if engine == "optuna":
        return _by_worker
    request.getfixturevalue("cluster")
    return _by_ray


def _wait_until(condition: Callable[[], bool]) -> None:
    pause, last = threading.Event(), time.monotonic() + MOST_SECONDS
    while not condition():
        assert time.monotonic() < last, "never happened"
        pause.wait(0.05)


def _entries(database: Database, search_id: int) -> list[Entry]:
    with database.read() as session:
        entries = search_leaderboard(session, session.get_one(Search, search_id))
    return [replace(each, evaluations=[], provenance=[], train_seconds=0.0) for each in entries]


def _curves(database: Database) -> dict[tuple[str, str], list[tuple[int, float | None, float | None]]]:
    """Every learning curve, by architecture and bit widths."""
    found = {}
    for evaluation in rows(database, Evaluation):
        for bits, stage in stages_of(database, evaluation.id).items():
            points = rows(database, CurvePoint, stage_id=stage.id)
            curve = [(point.epoch, point.train_loss, point.validation_accuracy) for point in points]
            found[evaluation.architecture, bits] = curve
    return found


@pytest.fixture(scope="module")
def expected(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Leaderboard and curves of the same search, made by one worker without a thread or a process of its own."""
    from searcher.database import Database

    folder = tmp_path_factory.mktemp("expected")
    (folder / "quantrank.db").write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{folder / 'quantrank.db'}")
    search_id = post(database, **THREE)
    worker = Worker(database, _settings(folder))
    while worker.run_one():
        pass
    found = _entries(database, search_id), _curves(database)
    database.dispose()
    return found


@pytest.mark.slow
def test_a_search_is_run_to_its_end_with_the_same_results(
    database: Database, tmp_path: Path, engine: str, place: Place, expected: tuple[Any, Any]
) -> None:
    search_id = post(database, engine=engine, **THREE)
    with place(database, tmp_path):
        _wait_until(lambda: status_of(database, search_id) == "finished")
    assert (_entries(database, search_id), _curves(database)) == expected
    evaluations = rows(database, Evaluation)
    assert [(each.status, each.attempt) for each in evaluations] == [("done", 1)] * 3
    told = kinds(database, search_id)
    assert (told[0], told[-1]) == ("search_created", "search_finished")
    assert [told.count(f"evaluation_{what}") for what in ("started", "done")] == [3, 3]
    workers = {each.id: each for each in rows(database, WorkerRow)}
    assert {workers[each.worker_id].device for each in evaluations} == {"cpu"}
    assert all(each.stopped_at is not None for each in workers.values())


def test_what_cannot_be_trained_is_failed_with_what_is_wrong(sqlite_database: Database, tmp_path: Path) -> None:
    starts_from_nothing = {"float_part": {"checkpoint": {"path": "nowhere.safetensors", "sha256": "0" * 64}}}
    search_id = post(sqlite_database, **THREE | {"widths": [3], "recipe": starts_from_nothing})
    with _by_worker(sqlite_database, tmp_path):
        _wait_until(lambda: status_of(sqlite_database, search_id) == "failed")
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("failed", 1)
    assert evaluation.error is not None
    assert evaluation.error.startswith("recipe.float_part.checkpoint.path: 'nowhere.safetensors'")


@pytest.mark.slow
def test_an_evaluation_on_a_lost_node_is_placed_again_when_its_lease_has_ended(
    cluster: Any, postgres_database: Database, tmp_path: Path
) -> None:
    database = postgres_database
    search_id = post(database, engine="ray", **THREE | {"widths": [3], "recipe": recipe(30, 1)})
    doomed = cluster.add_node(num_cpus=3, **SMALL_STORE)  # the only one with room for three cores
    with _by_ray(database, tmp_path, Share(cpus=3), lease_seconds=3600.0):
        _wait_until(lambda: rows(database, CurvePoint) != [])
        cluster.remove_node(doomed, allow_graceful=False)
        spare = cluster.add_node(num_cpus=3, **SMALL_STORE)
        (evaluation,) = rows(database, Evaluation)
        assert (evaluation.status, evaluation.attempt) == ("running", 1)
        end_lease(database, Lease(evaluation.id, evaluation.lease_token or ""))
        _wait_until(lambda: status_of(database, search_id) == "finished")
    cluster.remove_node(spare)
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("done", 2)
    assert {bits: len(curve) for (_, bits), curve in _curves(database).items()} == {"float": 30, "W2A2": 1}


def test_workers_leave_a_ray_search_alone(sqlite_database: Database, tmp_path: Path) -> None:
    post(sqlite_database, proposed=True, engine="ray", **THREE)
    assert not Worker(sqlite_database, _settings(tmp_path)).run_one()
    assert {each.status for each in rows(sqlite_database, Evaluation)} == {"queued"}


@pytest.mark.slow
def test_a_driver_told_to_stop_has_its_trials_hand_back_what_they_have_after_their_epoch(
    cluster: Any, postgres_database: Database, tmp_path: Path
) -> None:
    database = postgres_database
    post(database, engine="ray", **LONG)
    environment = os.environ | {
        "QUANTRANK_HOME": str(tmp_path),
        "QUANTRANK_DATABASE_URL": database.url.render_as_string(hide_password=False),
    }
    command = [sys.executable, "-m", "service", "ray", "--address", cluster.address]
    with (tmp_path / "ray.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait_until(lambda: rows(database, CurvePoint) != [] or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            assert process.wait(MOST_SECONDS) == 0, (tmp_path / "ray.log").read_text()
        finally:
            process.kill()
            process.wait(MOST_SECONDS)
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.lease_token) == ("queued", 0, None)
    stage = stages_of(database, evaluation.id)["float"]
    assert len(rows(database, CurvePoint)) == stage.epochs_done >= 1
    assert [each.name for each in Artifacts(tmp_path / "artifacts").files()] == [checkpoint_file(stage.key)]
    workers = {each.device: each for each in rows(database, WorkerRow)}
    assert workers.keys() == {"cpu", DEVICE}
    assert all(each.stopped_at is not None for each in workers.values())


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_node_that_is_unfit_claims_nothing_says_why_and_goes_on_once_it_is_mended(
    sqlite_database: Database, tmp_path: Path
) -> None:
    database, store = sqlite_database, tmp_path / "a file"
    store.write_text("in the way")
    search_id = post(database, engine="ray", **THREE | {"widths": [3], "recipe": recipe(1, 1)})
    settings = replace(_settings(tmp_path), artifacts=Artifacts(store), first_proof_pause_seconds=0.1)
    with _running(Driver(database, settings, ONE_CORE)):
        _wait_until(lambda: any(each.unfit_reason for each in rows(database, WorkerRow)))
        with database.read() as session:
            waits_for = progress(session, session.get_one(Search, search_id)).waits_for
        assert waits_for is not None
        assert f"store: QUANTRANK_ARTIFACTS: '{store}' cannot be written" in waits_for
        assert [(each.status, each.attempt) for each in rows(database, Evaluation)] == [("queued", 0)]
        store.unlink()
        _wait_until(lambda: status_of(database, search_id) == "finished")
    assert [(each.status, each.attempt) for each in rows(database, Evaluation)] == [("done", 1)]
