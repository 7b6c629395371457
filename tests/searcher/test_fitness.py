"""Workers prove themselves before they claim; what fails by their surroundings is handed back and not counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from building import claim, kinds, post, recipe, rows, status_of
from mounting import mounting, remount
from sqlalchemy import update
from working import run_to_end, wait_until, worker_settings

from qcore.device_errors import is_device_failure
from searcher import workers
from searcher.artifacts import Artifacts
from searcher.execution import Executor
from searcher.progress import progress
from searcher.proof import Check, Proof
from searcher.tables import CurvePoint, Evaluation, Search
from searcher.tables import Worker as WorkerRow
from searcher.worker import DeviceFailed, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from searcher.database import Database

TINY = {"parameter_budget": 4000, "blocks": ["basic"], "depths": [8], "widths": [3], "recipe": recipe(2, 1)}


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    with mounting() as mounted:
        yield mounted


def _worker(database: Database, folder: Path, worker_id: str = "one", **changes: Any) -> Worker:
    settings = replace(worker_settings(folder), first_proof_pause_seconds=0.01, **changes)
    worker = Worker(database, settings, worker_id=worker_id)
    worker._register()
    return worker


def _waits_for(database: Database, search_id: int) -> str | None:
    with database.read() as session:
        return progress(session, session.get_one(Search, search_id)).waits_for


def _attempts(database: Database) -> list[tuple[str, int, int]]:
    return [(each.status, each.attempt, each.fruitless_attempts) for each in rows(database, Evaluation)]


def test_a_worker_whose_store_cannot_be_written_claims_nothing_says_so_and_goes_on_once_it_can(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search_id = post(database, proposed=True, **TINY)
    place = tmp_path / "a file"
    place.write_text("in the way")
    worker = _worker(database, tmp_path, artifacts=Artifacts(place))
    pause = threading.Event()
    for _ in range(3):
        assert not worker.run_one()
        pause.wait(0.05)
    assert _attempts(database) == [("queued", 0, 0)]
    (row,) = rows(database, WorkerRow)
    assert row.unfit_reason is not None
    assert row.unfit_reason.startswith(f"store: QUANTRANK_ARTIFACTS: '{place}' cannot be written (")
    assert row.unfit_since is not None
    with database.read() as session:
        (listed,) = workers.list_workers(session)
        assert workers.problem_of_all(session) == _waits_for(database, search_id)
    assert listed.status == "unfit"
    told = _waits_for(database, search_id)
    assert told is not None
    assert told.startswith("every worker is unfit; on ")
    assert row.unfit_reason in told
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1  # however often it has tried
    assert "is unfit and claims nothing: store: " in warnings[0]

    place.unlink()
    wait_until(worker._fitness.is_fit)
    assert [each.unfit_reason for each in rows(database, WorkerRow)] == [None]
    assert _waits_for(database, search_id) is None
    run_to_end(worker)
    assert _attempts(database) == [("done", 1, 0)]
    assert list((place / "networks").glob("*.proof")) == []


def test_pauses_between_proofs_grow_to_a_limit(sqlite_database: Database, tmp_path: Path) -> None:
    worker = _worker(sqlite_database, tmp_path, longest_proof_pause_seconds=0.03)
    fitness, pauses = worker._fitness, []
    for _ in range(4):
        fitness.note("ill")
        pauses.append(fitness._pause)
    assert pauses == [0.02, 0.03, 0.03, 0.03]
    fitness.note(None)
    assert fitness._pause == 0.01


def test_a_trained_network_is_kept_until_the_store_takes_it(
    sqlite_database: Database, tmp_path: Path, mount: Callable[..., None]
) -> None:
    """The store becomes unwritable while the float network is trained."""
    search_id = post(sqlite_database, proposed=True, **TINY)
    store = tmp_path / "artifacts"
    mount(store, "size=10m")
    worker = _worker(sqlite_database, tmp_path)
    assert worker._fitness.is_fit()
    remount(store, "ro")
    running = threading.Thread(target=run_to_end, args=(worker,), daemon=True)
    running.start()
    wait_until(lambda: rows(sqlite_database, WorkerRow)[0].unfit_reason is not None)
    assert _attempts(sqlite_database) == [("running", 1, 0)]
    assert len(rows(sqlite_database, CurvePoint)) == 2
    remount(store, "rw")
    running.join(60)
    assert not running.is_alive()
    assert _attempts(sqlite_database) == [("done", 1, 0)]
    assert len(rows(sqlite_database, CurvePoint)) == 2 + 1  # nothing was trained twice
    assert status_of(sqlite_database, search_id) == "finished"
    assert rows(sqlite_database, WorkerRow)[0].unfit_reason is None


def test_a_store_that_stays_unwritable_costs_the_evaluation_no_attempt(
    sqlite_database: Database, tmp_path: Path, mount: Callable[..., None]
) -> None:
    post(sqlite_database, proposed=True, **TINY)
    store = tmp_path / "artifacts"
    mount(store, "size=10m")
    worker = _worker(sqlite_database, tmp_path, store_patience_seconds=0.0)
    assert worker._fitness.is_fit()
    remount(store, "ro")
    assert worker.run_one()
    assert _attempts(sqlite_database) == [("queued", 0, 0)]
    assert not worker.run_one()
    remount(store, "rw")
    wait_until(worker._fitness.is_fit)
    run_to_end(worker)
    assert _attempts(sqlite_database) == [("done", 1, 0)]


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int = 100) -> list[int]:
    """Has evaluations meet an error so many times; notes when."""
    met: list[int] = []
    run = Executor.run

    def fail(self: Executor, lease: Any, check: Any) -> None:
        if len(met) < times:
            met.append(lease.evaluation_id)
            raise error
        run(self, lease, check)

    monkeypatch.setattr(Executor, "run", fail)
    return met


def test_an_error_that_nobody_knows_is_tried_once_more_by_another_worker(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = post(database, proposed=True, **TINY)
    one, other = _worker(database, tmp_path, "one"), _worker(database, tmp_path, "other")
    met = _failing(monkeypatch, RuntimeError("never heard of"), times=1)
    assert one.run_one()
    assert _attempts(database) == [("queued", 0, 0)]
    assert not one.run_one()  # it leaves it to the other
    run_to_end(other)
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.worker_id, evaluation.suspected_by) == ("done", "other", None)
    assert len(met) == 1
    assert "evaluation_failed" not in kinds(database, search_id)


@pytest.mark.parametrize("alone", [True, False])
def test_the_second_error_fails_the_evaluation_though_nobody_else_is_there_to_meet_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alone: bool
) -> None:
    search_id = post(database, proposed=True, **TINY)
    one, other = _worker(database, tmp_path, "one"), _worker(database, tmp_path, "other")
    if alone:
        with database.write() as session:
            workers.note_fitness(session, "other", "ill")
    met = _failing(monkeypatch, RuntimeError("never heard of"))
    assert one.run_one()
    assert (one if alone else other).run_one()
    assert len(met) == 2
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.error) == ("failed", "RuntimeError: never heard of")
    assert status_of(database, search_id) == "failed"


def test_a_worker_without_the_data_is_not_waited_for(database: Database) -> None:
    post(database, proposed=True, **TINY)
    (search,) = rows(database, Search)
    for each in ("one", "other"):
        with database.write() as session:
            workers.register(session, each, worker_settings(Path("unused")))
    with database.write() as session:
        session.execute(update(Evaluation).values(suspected_by="one"))
        workers.note_missing(session, "other", "digits", search.task_version, "lacks it")
    assert claim(database, worker_id="one")


def test_an_error_of_a_worker_that_proves_unfit_is_not_the_evaluations(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(sqlite_database, proposed=True, **TINY)
    worker = _worker(sqlite_database, tmp_path)
    assert worker._fitness.is_fit()
    _failing(monkeypatch, OSError(30, "Read-only file system"), times=1)
    monkeypatch.setattr(worker._fitness, "_prove", lambda *_, **__: Proof((Check("temporary folder", "", "no"),)))
    assert worker.run_one()
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.suspected_by) == ("queued", 0, None)
    assert rows(sqlite_database, WorkerRow)[0].unfit_reason == "temporary folder /tmp: no"


@pytest.mark.parametrize(
    "error", ["CUDA error: device-side assert triggered", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"]
)
def test_a_process_whose_device_failed_ends_and_hands_back(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    post(sqlite_database, proposed=True, **TINY)
    _failing(monkeypatch, RuntimeError(error))
    with pytest.raises(DeviceFailed, match=error):
        Worker(sqlite_database, worker_settings(tmp_path), worker_id="one").run()
    assert _attempts(sqlite_database) == [("queued", 0, 0)]
    assert rows(sqlite_database, WorkerRow)[0].stopped_at is not None
    with pytest.raises(DeviceFailed):  # it was the evaluation: no other worker ends for it
        Worker(sqlite_database, worker_settings(tmp_path), worker_id="two").run()
    assert [each.status for each in rows(sqlite_database, Evaluation)] == ["failed"]


def test_a_lack_of_memory_is_no_failure_of_the_device() -> None:
    assert not is_device_failure(RuntimeError("CUDA error: out of memory. DefaultCPUAllocator: not enough"))
    assert not is_device_failure(ValueError("CUDA error"))


def _check(tmp_path: Path, *options: str, **environment: str) -> tuple[int, dict[str, str | None]]:
    """What ``quantrank worker --check`` says of every part, and its status."""
    command = [sys.executable, "-m", "service", "worker", "--check", "--json"]
    inherited = os.environ | {"QUANTRANK_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [*options, *command], env=inherited | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, {each["name"]: each["problem"] for each in json.loads(done.stdout)["checks"]}


def test_the_command_prints_the_proof(tmp_path: Path, mount: Callable[..., None]) -> None:
    """With a cache of kernels from which nothing may be run, as containers may have: they are loaded all the same."""
    mount(tmp_path / "cache", "noexec", "size=10m")
    parts = ["temporary folder", "store", "device", "kernels", "training"]
    status, found = _check(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (status, found) == (0, dict.fromkeys(parts))
    assert list((tmp_path / "cache/quantrank").glob("kernels-*.so"))


@pytest.mark.slow
def test_without_a_compiler_a_worker_trains_without_kernels_and_the_command_says_so(tmp_path: Path) -> None:
    status, found = _check(tmp_path, PATH="/nowhere", CXX="")
    assert status == 1
    assert found.pop("kernels") == "kernels: 'fused' need Linux and a C++ compiler; install g++, or set CXX"
    assert set(found.values()) == {None}


def test_without_a_temporary_folder_nothing_else_is_tried(tmp_path: Path) -> None:
    everywhere = (
        "for each in /tmp /var/tmp /usr/tmp; do mkdir -p $each; mount -t tmpfs -o ro none $each; done; cd /proc"
    )
    status, found = _check(
        Path("/dev/shm") / tmp_path.name, "unshare", "-m", "sh", "-c", f'{everywhere}; exec "$@"', "-"
    )
    assert status == 1
    problem = found["temporary folder"]
    assert problem is not None
    assert problem.startswith("No usable temporary directory found in ['/tmp', ")


READ_ONLY = """
mkdir -p /mnt/home /usr/tmp
mount --bind "$QUANTRANK_HOME" /mnt/home
for each in /tmp /var/tmp /usr/tmp; do mount -t tmpfs -o ro none $each; done
export QUANTRANK_HOME=/mnt/home
cd /proc
exec "$@"
"""
"""A command whose root file system is read-only but for its home, as a container's may be."""


def test_a_worker_on_a_read_only_file_system_fails_nothing_beside_one_that_works(
    sqlite_database: Database, tmp_path: Path
) -> None:
    search_id = post(sqlite_database, proposed=True, **TINY | {"widths": [3, 4, 5], "parameter_budget": 10_000})
    database_file = Path(sqlite_database.url.database or "")
    here = {
        "QUANTRANK_HOME": str(database_file.parent),
        "QUANTRANK_DATABASE_URL": f"sqlite:////mnt/home/{database_file.name}",
    }
    sick = [*("unshare", "-m", "sh", "-c", READ_ONLY, "-"), sys.executable, "-m", "service", "worker"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(sick, env=os.environ | here, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: [each.unfit_reason is not None for each in rows(sqlite_database, WorkerRow)] == [True],
            (tmp_path / "log").read_text,
        )
        run_to_end(_worker(sqlite_database, tmp_path, "healthy"))
    finally:
        process.terminate()
        assert process.wait(60) == 0
    found = rows(sqlite_database, Evaluation)
    assert [(each.status, each.attempt, each.worker_id) for each in found] == [("done", 1, "healthy")] * 3
    assert status_of(sqlite_database, search_id) == "finished"
    assert (tmp_path / "log").read_text().count("is unfit") == 1
