"""A store on a file system that is really full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from building import post, recipe, rows, stages_of, status_of

from qcore import Architecture, BitWidths, evaluate, get_task
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.situation import search_recipe
from searcher.tables import CurvePoint, Evaluation, Search, Stage
from searcher.tables import Worker as WorkerRow
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from tests.disks import fill

TINY = {"parameter_budget": 4000, "widths": [3], "recipe": recipe(3, 1)}

Mount = Callable[[Path, int], None]
Accuracies = dict[tuple[int, str], float | None]


def run_to_end(database: Database, folder: Path) -> None:
    artifacts = Artifacts(folder / "artifacts")
    worker = Worker(database, WorkerSettings(data_root=folder, artifacts=artifacts, poll_seconds=0.01))
    while worker.run_one():
        pass


def accuracies(database: Database) -> Accuracies:
    """By seed and bit widths, of stages that have ended."""
    seeds = {each.id: each.seed for each in rows(database, Evaluation)}
    ended = rows(database, Stage, status="done")
    return {(seeds[each.evaluation_id], each.bit_widths): each.test_accuracy for each in ended}


def expected(database: Database, folder: Path, seed: int) -> Accuracies:
    """What training without a store gives."""
    stages = evaluate(
        Architecture.parse("basic-L8-D3"),
        get_task("digits"),
        [BitWidths(2, 2)],
        recipe=search_recipe(rows(database, Search)[0]),
        data_root=folder,
        seed=seed,
    )
    return {(seed, str(stage.bit_widths)): result.test_accuracy for stage, result in stages}


def test_training_goes_on_without_checkpoints_where_there_is_no_room_for_them(
    sqlite_database: Database, tmp_path: Path, mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    mount(tmp_path / "artifacts/checkpoints", 4096)
    search_id = post(sqlite_database, **TINY)
    run_to_end(sqlite_database, tmp_path)
    assert status_of(sqlite_database, search_id) == "finished"
    assert accuracies(sqlite_database) == expected(sqlite_database, tmp_path, seed=0)
    assert caplog.text.count("training goes on without a checkpoint") == 3 + 1  # one an epoch
    assert "No space left on device" in caplog.text
    assert list((tmp_path / "artifacts/checkpoints").iterdir()) == []


def test_no_room_for_a_network_counts_for_nothing_and_another_is_trained_once_there_is(
    sqlite_database: Database, tmp_path: Path, mount: Mount
) -> None:
    store = tmp_path / "artifacts"
    mount(store, 1_000_000)
    post(sqlite_database, **TINY)
    run_to_end(sqlite_database, tmp_path)
    of_first = expected(sqlite_database, tmp_path, seed=0)
    assert accuracies(sqlite_database) == of_first

    settings = WorkerSettings(
        data_root=tmp_path, artifacts=Artifacts(store), first_proof_pause_seconds=0.01, store_patience_seconds=0.0
    )
    worker = Worker(sqlite_database, settings)
    worker._register()
    assert worker._fitness.is_fit()
    ballast = fill(store)
    search_id = post(sqlite_database, **TINY, seeds=[1])
    while worker.run_one():  # until it has found that it is unfit
        pass
    _, left = rows(sqlite_database, Evaluation)
    assert (left.status, left.attempt, left.error) == ("queued", 0, None)
    (row,) = rows(sqlite_database, WorkerRow, id=worker.id)
    told = f"store: QUANTRANK_ARTIFACTS: '{store}' cannot be written (No space left on device)"
    assert row.unfit_reason is not None
    assert row.unfit_reason.startswith(told)
    assert "quantrank gc" in row.unfit_reason
    assert accuracies(sqlite_database) == of_first
    pending = stages_of(sqlite_database, left.id)
    assert {bits: stage.status for bits, stage in pending.items()} == {"float": "pending", "W2A2": "pending"}
    assert len(rows(sqlite_database, CurvePoint, stage_id=pending["float"].id)) == 3
    for stage in rows(sqlite_database, Stage, status="done"):
        assert Artifacts(store).read_network(stage.key, stage.network_digest)

    ballast.unlink()
    run_to_end(sqlite_database, tmp_path)
    assert status_of(sqlite_database, search_id) == "finished"
    assert [each.status for each in rows(sqlite_database, Evaluation)] == ["done", "done"]
    assert accuracies(sqlite_database) == of_first | expected(sqlite_database, tmp_path, seed=1)
