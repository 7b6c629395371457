"""Workers that really train: tiny searches on digits, to their end, interrupted, diverging and killed."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from building import claim, end_lease, kinds, post, recipe, rows, stages_in_order, stages_of, status_of
from PIL import Image
from sqlalchemy import update
from working import MOST_SECONDS, Results, new_worker, run_to_end, stored_results, wait_until, worker_settings

from qcore import Architecture, BitWidths, evaluate, get_task
from qcore.checkpoints import from_bytes, read_checkpoint
from searcher import results
from searcher.artifacts import Artifacts, network_file
from searcher.database import Database
from searcher.execution import Executor
from searcher.leaderboard import search_leaderboard
from searcher.leases import Lease
from searcher.plan import plan
from searcher.progress import progress
from searcher.request import SearchRequest
from searcher.retention import collect_garbage
from searcher.searches import create_search
from searcher.situation import search_recipe
from searcher.tables import CurvePoint, Evaluation, Event, MissingData, Search, Stage
from searcher.tables import Worker as WorkerRow
from searcher.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qcore import Recipe

TINY = {"parameter_budget": 4000, "blocks": ["basic"], "depths": [8], "widths": [3], "recipe": recipe(2, 1)}


def _expected(folder: Path, name: str, bit_widths: list[str], used: Recipe, seed: int = 0) -> Results:
    """The same, without worker and database."""
    stages = evaluate(
        Architecture.parse(name),
        get_task("digits"),
        [BitWidths.parse(bits) for bits in bit_widths],
        recipe=used,
        data_root=folder,
        seed=seed,
    )
    return {
        (name, seed, str(stage.bit_widths)): (
            result.status,
            result.validation_accuracy,
            result.test_accuracy,
            [(each.epoch, each.train_loss, each.validation_accuracy, each.learning_rate) for each in result.curve],
        )
        for stage, result in stages
    }


def _recipe_of(database: Database, search_id: int) -> Recipe:
    (search,) = rows(database, Search, id=search_id)
    return search_recipe(search)


def test_a_worker_runs_a_search_to_its_end(sqlite_database: Database, tmp_path: Path) -> None:
    fields = TINY | {"blocks": ["basic", "preact"], "bit_widths": ["W2A2", "WFA4"], "seeds": [3]}
    search_id = post(sqlite_database, **fields)
    run_to_end(new_worker(sqlite_database, tmp_path))
    assert status_of(sqlite_database, search_id) == "finished"
    assert kinds(sqlite_database, search_id)[-1] == "search_finished"
    assert [(each.status, each.attempt) for each in rows(sqlite_database, Evaluation)] == [("done", 1)] * 2
    used = _recipe_of(sqlite_database, search_id)
    expected = {
        **_expected(tmp_path, "basic-L8-D3", ["W2A2", "WFA4"], used, seed=3),
        **_expected(tmp_path, "preact-L8-D3", ["W2A2", "WFA4"], used, seed=3),
    }
    assert stored_results(sqlite_database) == expected
    assert all((stage.train_seconds or 0.0) > 0.0 for stage in rows(sqlite_database, Stage))


def test_a_worker_works_until_it_is_stopped(sqlite_database: Database, tmp_path: Path) -> None:
    search_id = post(sqlite_database, **TINY)
    worker = new_worker(sqlite_database, tmp_path)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_until(lambda: status_of(sqlite_database, search_id) == "finished")
    later = post(sqlite_database, **TINY, seeds=[1])
    wait_until(lambda: status_of(sqlite_database, later) == "finished")
    assert thread.is_alive()
    (row,) = rows(sqlite_database, WorkerRow)
    assert (row.id, row.pid, row.device, row.stopped_at) == (worker.id, os.getpid(), "cpu", None)
    worker.stop()
    thread.join(MOST_SECONDS)
    assert not thread.is_alive()
    (row,) = rows(sqlite_database, WorkerRow)
    assert row.stopped_at is not None
    assert row.heartbeat_at >= row.started_at
    assert row.evaluation_id is None
    assert {each.worker_id for each in rows(sqlite_database, Evaluation)} == {worker.id}


def test_a_result_implies_its_network_and_leaves_no_checkpoint(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(sqlite_database, **TINY)
    artifacts = worker_settings(tmp_path).artifacts
    there: list[bytes] = []
    real = results.accept_stage

    def accept_stage(session: Any, lease: Any, stage_id: int, **values: Any) -> None:
        there.append(artifacts.read_network(session.get_one(Stage, stage_id).key, values["network_digest"]))
        real(session, lease, stage_id, **values)

    monkeypatch.setattr(results, "accept_stage", accept_stage)
    run_to_end(new_worker(sqlite_database, tmp_path))
    for stage, content in zip(stages_in_order(sqlite_database), there, strict=True):
        assert artifacts.read_network(stage.key, stage.network_digest) == content
        saved = from_bytes(content)
        assert saved is not None
        assert (saved[1]["stage"], saved[1]["architecture"]) == (stage.key, "basic-L8-D3")
        assert saved[0]["stem_conv.weight"].shape == (3, 1, 3, 3)
    assert list((tmp_path / "artifacts/checkpoints").iterdir()) == []


def test_every_result_says_where_it_came_from(sqlite_database: Database, tmp_path: Path) -> None:
    post(sqlite_database, **TINY)
    run_to_end(new_worker(sqlite_database, tmp_path))
    for stage in rows(sqlite_database, Stage):
        found = stage.provenance
        assert found is not None
        assert (found["torch"], found["quantrank"]) == (version("torch"), version("quantrank"))
        assert (found["threads"], found["device"][:5], found["host"]) == (1, "cpu (", os.uname().nodename)
        assert found["python"] == ".".join(map(str, sys.version_info[:3]))
        assert {"numerics", "revision"} <= found.keys()


@pytest.mark.parametrize("damage", ["deleted", "truncated", "one bit", "another network"])
def test_a_float_network_that_is_gone_is_trained_again_without_a_second_result(
    sqlite_database: Database, tmp_path: Path, damage: str
) -> None:
    search_id = post(sqlite_database, **TINY)
    worker = new_worker(sqlite_database, tmp_path)
    run_to_end(worker)
    (evaluation,) = rows(sqlite_database, Evaluation)
    before = stages_of(sqlite_database, evaluation.id)["float"]
    network = tmp_path / "artifacts" / network_file(before.key, before.network_digest)
    content = network.read_bytes()
    if damage == "deleted":
        network.unlink()
    elif damage == "truncated":
        network.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        network.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:  # as if it had been trained on another kind of machine, to other bytes, and then was lost
        network.unlink()
        with sqlite_database.write() as session:
            session.execute(update(Stage).where(Stage.id == before.id).values(network_digest="0" * 64))
    later = post(sqlite_database, **TINY, bit_widths=["W4A4"])
    run_to_end(worker)
    assert status_of(sqlite_database, later) == "finished"
    assert network.read_bytes() == content
    after = stages_of(sqlite_database, evaluation.id)["float"]
    assert (after.id, after.ended_at, after.provenance) == (before.id, before.ended_at, before.provenance)
    assert after.network_digest == before.network_digest
    told = [event.data["bit_widths"] for event in rows(sqlite_database, Event, search_id=later, kind="stage_ended")]
    assert told == ["W4A4"]
    used = _recipe_of(sqlite_database, search_id)
    assert stored_results(sqlite_database) == _expected(tmp_path, "basic-L8-D3", ["W2A2", "W4A4"], used)
    assert list((tmp_path / "artifacts/checkpoints").iterdir()) == []


def test_a_worker_whose_store_lacks_a_float_network_says_so_and_trains_it_again(
    sqlite_database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a host that was given a store of its own: the pool loses the time, and nothing else."""
    search_id = post(sqlite_database, **TINY)
    here, elsewhere = (
        replace(worker_settings(tmp_path), artifacts=Artifacts(tmp_path / each)) for each in ("here", "elsewhere")
    )
    first = Worker(sqlite_database, here)
    recorded = _recorder(monkeypatch, lambda stage, _: None if stage.bit_widths.is_float else first.stop())
    first.run()
    assert recorded == [("float", 1), ("float", 2), ("W2A2", 1)]
    run_to_end(Worker(sqlite_database, elsewhere))
    used = _recipe_of(sqlite_database, search_id)
    assert stored_results(sqlite_database) == _expected(tmp_path, "basic-L8-D3", ["W2A2"], used)
    assert recorded[3:] == [("W2A2", 1)]  # no second result of the float stage
    (evaluation,) = rows(sqlite_database, Evaluation)
    network = stages_of(sqlite_database, evaluation.id)["float"]
    told = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert f"has no network in {tmp_path / 'elsewhere'}" in told[0]
    assert told[1].endswith("training its network again")
    for settings in (here, elsewhere):
        assert settings.artifacts.read_network(network.key, network.network_digest)


def test_a_float_network_that_an_earlier_release_stored_by_key_is_retrained_from(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = post(sqlite_database, **TINY)
    worker = new_worker(sqlite_database, tmp_path)
    run_to_end(worker)
    artifacts = worker_settings(tmp_path).artifacts
    for stage in rows(sqlite_database, Stage):
        artifacts.write(network_file(stage.key, None), artifacts.read_network(stage.key, stage.network_digest))
        artifacts.remove(network_file(stage.key, stage.network_digest))
    with sqlite_database.write() as session:
        session.execute(update(Stage).values(network_digest=None))
    recorded = _recorder(monkeypatch, lambda *_: None)
    post(sqlite_database, **TINY, bit_widths=["W4A4"])
    run_to_end(worker)
    assert recorded == [("W4A4", 1)]
    used = _recipe_of(sqlite_database, search_id)
    assert stored_results(sqlite_database) == _expected(tmp_path, "basic-L8-D3", ["W2A2", "W4A4"], used)


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-9] + b"\xff" * 9])
def test_a_damaged_checkpoint_starts_its_stage_afresh(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    search_id = post(sqlite_database, **TINY | {"recipe": recipe(3, 1)})
    first = new_worker(sqlite_database, tmp_path)
    recorded = _recorder(monkeypatch, lambda _, epoch: first.stop() if epoch == 2 else None)
    first.run()
    (checkpoint,) = (tmp_path / "artifacts/checkpoints").iterdir()
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    run_to_end(new_worker(sqlite_database, tmp_path))
    assert recorded == [("float", epoch) for epoch in (1, 2, 1, 2, 3)] + [("W2A2", 1)]
    assert status_of(sqlite_database, search_id) == "finished"
    used = _recipe_of(sqlite_database, search_id)
    assert stored_results(sqlite_database) == _expected(tmp_path, "basic-L8-D3", ["W2A2"], used)


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_store_behind_a_url_serves_a_search_as_a_folder_does(
    sqlite_database: Database,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    location = "memory://quantrank/store" if kind == "memory" else request.getfixturevalue("bucket")
    search_id = post(sqlite_database, **TINY)
    artifacts = Artifacts(location)
    for _ in range(2):  # the second worker, as on another host, finds what the first one stored
        worker = Worker(sqlite_database, replace(worker_settings(tmp_path), artifacts=Artifacts(location)))
        run_to_end(worker)
        later = post(sqlite_database, **TINY, bit_widths=["W4A4"])
    used = _recipe_of(sqlite_database, search_id)
    assert status_of(sqlite_database, later) == "finished"
    assert stored_results(sqlite_database) == _expected(tmp_path, "basic-L8-D3", ["W2A2", "W4A4"], used)
    stages = rows(sqlite_database, Stage)
    assert all(artifacts.read_network(each.key, each.network_digest) for each in stages)
    networks = {network_file(each.key, each.network_digest) for each in stages}
    assert {file.name for file in artifacts.files()} == networks
    assert not (tmp_path / "artifacts").exists()

    artifacts.write_network(b"an orphan")
    assert collect_garbage(sqlite_database, artifacts, older_than_seconds=0.0) == []
    two_hours_on = time.time() + 7200.0
    monkeypatch.setattr(time, "time", lambda: two_hours_on)
    assert [each.size for each in collect_garbage(sqlite_database, artifacts, older_than_seconds=0.0)] == [9]
    assert {file.name for file in artifacts.files()} == networks


def test_a_worker_without_the_data_hands_the_evaluation_back_and_says_once_what_it_lacks(
    sqlite_database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poor, rich = new_worker(sqlite_database, tmp_path / "poor"), new_worker(sqlite_database, tmp_path / "rich")
    _write_parts(tmp_path / "rich/datasets")
    request = SearchRequest(
        task="images/parts@8", bit_widths=["W2A2"], **TINY | {"widths": [3, 4], "parameter_budget": 10_000}
    )
    with sqlite_database.write() as session:
        search_id = create_search(session, plan(request, tmp_path / "rich/datasets")).id
    run_to_end(poor)
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.error) == ("queued", 0, None)
    (missing,) = rows(sqlite_database, MissingData)
    assert (missing.worker_id, missing.task) == (poor.id, "images/parts@8")
    assert f"lacks the folder {tmp_path / 'poor/datasets/images/parts'}" in missing.problem
    assert "put one folder of images per class in" in missing.problem
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert missing.problem in told[0]
    run_to_end(rich)
    assert status_of(sqlite_database, search_id) == "finished"
    assert [(each.status, each.attempt) for each in rows(sqlite_database, Evaluation)] == [("done", 1)] * 2


def test_a_worker_takes_evaluations_again_once_the_data_are_there(sqlite_database: Database, tmp_path: Path) -> None:
    _write_parts(tmp_path / "server")
    request = SearchRequest(task="images/parts@8", bit_widths=["W2A2"], **TINY)
    with sqlite_database.write() as session:
        search_id = create_search(session, plan(request, tmp_path / "server")).id
    worker = Worker(sqlite_database, replace(worker_settings(tmp_path), data_check_seconds=0.05))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_until(lambda: len(rows(sqlite_database, MissingData)) == 1)
    with sqlite_database.read() as session:
        waits_for = progress(session, session.get_one(Search, search_id)).waits_for
    assert waits_for is not None
    assert "no worker has its data" in waits_for
    (tmp_path / "datasets").mkdir(exist_ok=True)
    (tmp_path / "server/images").rename(tmp_path / "datasets/images")
    wait_until(lambda: status_of(sqlite_database, search_id) == "finished")
    worker.stop()
    thread.join(MOST_SECONDS)
    assert rows(sqlite_database, MissingData) == []
    assert [each.status for each in rows(sqlite_database, Evaluation)] == ["done"]


def test_a_worker_with_damaged_data_does_not_try_them_again_and_again(
    sqlite_database: Database, tmp_path: Path
) -> None:
    _write_parts(tmp_path / "datasets")
    damaged = tmp_path / "datasets/images/parts/nut/07.png"
    damaged.write_bytes(b"?" * damaged.stat().st_size)
    request = SearchRequest(task="images/parts@8", bit_widths=["W2A2"], **TINY)
    with sqlite_database.write() as session:
        search_id = create_search(session, plan(request, tmp_path / "datasets")).id
    worker = Worker(sqlite_database, replace(worker_settings(tmp_path), data_check_seconds=0.0))
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_until(lambda: len(rows(sqlite_database, MissingData)) == 1)
    other = post(sqlite_database, **TINY)
    wait_until(lambda: status_of(sqlite_database, other) == "finished")
    worker.stop()
    thread.join(MOST_SECONDS)
    assert kinds(sqlite_database, search_id).count("evaluation_started") == 1
    assert status_of(sqlite_database, search_id) == "running"


def _write_parts(data_root: Path, count: int = 30) -> None:
    random = np.random.default_rng(0)
    for label, name in enumerate(["bolt", "nut"]):
        folder = data_root / "images" / "parts" / name
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(100 * label, 100 * label + 100, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:02}.png")


def test_a_search_over_the_users_own_images_is_trained_on_a_host_that_has_the_same_ones(
    sqlite_database: Database, tmp_path: Path
) -> None:
    worker, data_root = new_worker(sqlite_database, tmp_path), tmp_path / "datasets"
    for count in (30, 40):  # the second time other images, for the worker that has read the first ones
        for host in (tmp_path / "server", data_root):
            shutil.rmtree(host, ignore_errors=True)
            _write_parts(host, count)
        request = SearchRequest(task="images/parts@8", bit_widths=["W2A2"], **TINY)
        with sqlite_database.write() as session:
            search_id = create_search(session, plan(request, tmp_path / "server")).id
        run_to_end(worker)
        assert status_of(sqlite_database, search_id) == "finished"
        evaluation = rows(sqlite_database, Evaluation)[-1]
        trained = {
            bits: (
                stage.test_accuracy,
                [each.train_loss for each in rows(sqlite_database, CurvePoint, stage_id=stage.id)],
            )
            for bits, stage in stages_of(sqlite_database, evaluation.id).items()
        }
        found = evaluate(
            Architecture.parse("basic-L8-D3"),
            get_task("images/parts@8", data_root),
            [BitWidths(2, 2)],
            recipe=_recipe_of(sqlite_database, search_id),
            data_root=data_root,
        )
        assert trained == {
            str(stage.bit_widths): (result.test_accuracy, [each.train_loss for each in result.curve])
            for stage, result in found
        }


def test_a_host_with_other_images_than_the_search_was_posted_for_trains_on_none_of_them(
    sqlite_database: Database, tmp_path: Path
) -> None:
    _write_parts(tmp_path / "server")
    _write_parts(tmp_path / "datasets", 29)
    request = SearchRequest(task="images/parts@8", bit_widths=["W2A2"], **TINY)
    with sqlite_database.write() as session:
        create_search(session, plan(request, tmp_path / "server"))
    run_to_end(new_worker(sqlite_database, tmp_path))
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("queued", 0)
    (missing,) = rows(sqlite_database, MissingData)
    assert "has other images than asked for" in missing.problem
    assert str(tmp_path / "datasets/images/parts") in missing.problem


def _recorder(monkeypatch: pytest.MonkeyPatch, after: Callable[[Stage, int], None]) -> list[tuple[str, int]]:
    """Notes every epoch that is recorded, and calls ``after`` once it is committed."""
    recorded: list[tuple[str, int]] = []
    real_record, real_train = results.record_epoch, Executor._train

    def record_epoch(session: Any, lease: Any, stage_id: int, **values: Any) -> None:
        real_record(session, lease, stage_id, **values)
        recorded.append((session.get_one(Stage, stage_id).bit_widths, values["epoch"]))

    def train(self: Any, plan: Any, float_state: Any, on_epoch: Callable[[Any], None], check: Any) -> Any:
        def on_epoch_and_after(point: Any) -> None:
            on_epoch(point)
            after(plan, point.epoch)

        return real_train(self, plan, float_state, on_epoch_and_after, check)

    monkeypatch.setattr(results, "record_epoch", record_epoch)
    monkeypatch.setattr(Executor, "_train", train)
    return recorded


@pytest.mark.parametrize("stop_at", [("float", 2), ("W2A2", 1)])
def test_a_stopped_worker_hands_its_evaluation_back_and_another_continues_it(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: tuple[str, int]
) -> None:
    search_id = post(sqlite_database, **TINY | {"recipe": recipe(4, 3)})
    first, second = new_worker(sqlite_database, tmp_path), new_worker(sqlite_database, tmp_path)

    def stop(stage: Any, epoch: int) -> None:
        if (str(stage.bit_widths), epoch) == stop_at:
            first.stop()

    recorded = _recorder(monkeypatch, stop)
    first.run()
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.lease_token) == ("queued", 0, None)
    assert recorded[-1] == stop_at
    stage = stages_of(sqlite_database, evaluation.id)[stop_at[0]]
    assert (stage.status, stage.epochs_done) == ("pending", stop_at[1])
    saved = read_checkpoint(worker_settings(tmp_path).artifacts.checkpoint(stage.key))
    assert saved is not None
    assert len(saved[1]["curve"]) == stop_at[1]

    run_to_end(second)
    assert status_of(sqlite_database, search_id) == "finished"
    all_epochs = [*(("float", epoch) for epoch in range(1, 5)), *(("W2A2", epoch) for epoch in range(1, 4))]
    assert recorded == all_epochs
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.worker_id) == ("done", 1, second.id)
    assert stored_results(sqlite_database) == _expected(
        tmp_path, "basic-L8-D3", ["W2A2"], _recipe_of(sqlite_database, search_id)
    )


def test_a_worker_stopped_in_the_last_epoch_of_a_stage_does_not_even_test_it_and_another_goes_on(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = post(sqlite_database, **TINY | {"recipe": recipe(2, 2)})
    worker = new_worker(sqlite_database, tmp_path)

    def stop(stage: Any, epoch: int) -> None:
        if (str(stage.bit_widths), epoch) == ("float", 2):
            worker.stop()

    recorded = _recorder(monkeypatch, stop)
    worker.run()
    assert recorded == [("float", 1), ("float", 2)]
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.attempt) == ("queued", 0)
    stage = stages_of(sqlite_database, evaluation.id)["float"]
    assert (stage.status, stage.epochs_done) == ("pending", 2)
    run_to_end(new_worker(sqlite_database, tmp_path))
    assert recorded == [("float", 1), ("float", 2), ("W2A2", 1), ("W2A2", 2)]  # no epoch twice
    assert stored_results(sqlite_database) == _expected(
        tmp_path, "basic-L8-D3", ["W2A2"], _recipe_of(sqlite_database, search_id)
    )


def test_a_worker_that_lost_its_lease_drops_the_evaluation_and_stores_nothing_more(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = post(sqlite_database, proposed=True, **TINY | {"recipe": recipe(4, 1)})
    taken = []

    def take_over(_stage: Any, epoch: int) -> None:
        if epoch == 2:
            (evaluation,) = rows(sqlite_database, Evaluation)
            end_lease(sqlite_database, Lease(evaluation.id, evaluation.lease_token or ""))
            taken.append(claim(sqlite_database, worker_id="another"))

    recorded = _recorder(monkeypatch, take_over)
    assert new_worker(sqlite_database, tmp_path).run_one()
    assert recorded == [("float", 1), ("float", 2)]
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert (evaluation.status, evaluation.worker_id, evaluation.attempt) == ("running", "another", 2)
    assert evaluation.lease_token == taken[0].token
    assert {stage.status for stage in rows(sqlite_database, Stage)} == {"pending"}
    assert status_of(sqlite_database, search_id) == "running"


@pytest.mark.parametrize("part", ["float_part", "retraining"])
def test_a_diverging_run_is_a_result_and_the_search_ends(sqlite_database: Database, tmp_path: Path, part: str) -> None:
    changes = recipe(3, 3)
    changes[part]["schedule"] |= {"learning_rate": 10.0, "weight_decay": 1.0}
    search_id = post(sqlite_database, **TINY | {"recipe": changes, "bit_widths": ["W2A2", "W4A4"]})
    run_to_end(new_worker(sqlite_database, tmp_path))
    (evaluation,) = rows(sqlite_database, Evaluation)
    assert evaluation.status == "done"
    assert status_of(sqlite_database, search_id) == "finished"
    found = {bits: result for (_, _, bits), result in stored_results(sqlite_database).items()}
    statuses = {bits: result[0] for bits, result in found.items()}
    float_status = "diverged" if part == "float_part" else "done"
    assert statuses == {"float": float_status, "W2A2": "diverged", "W4A4": "diverged"}
    for status, validation, test, _ in found.values():
        assert (validation is None, test is None) == (status == "diverged",) * 2
    trained = {bits for bits, (*_, curve) in found.items() if curve}
    assert trained == ({"float"} if part == "float_part" else set(found))  # there is nothing to retrain from
    diverged_curve = found["float" if part == "float_part" else "W2A2"][3]
    if part == "float_part":
        assert diverged_curve[-1][1] is None
    with sqlite_database.read() as session:
        (entry,) = search_leaderboard(session, session.get_one(Search, search_id))
    assert (entry.rank, entry.diverged, entry.ranking_accuracy) == (1, 1, None)
