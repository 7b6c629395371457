"""From a stored evaluation to the network that is shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from building import accept_stage, claim, post, recipe, rows, stages_of, work

from qcore import BitWidths, InvalidInput
from qcore.checkpoints import from_bytes, to_bytes
from qcore.export import unpack
from searcher import exports, results
from searcher.artifacts import Artifacts, network_file
from searcher.database import Database
from searcher.tables import Evaluation, Stage
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings

ONE = {"parameter_budget": 4000, "widths": [3]}


def found(database: Database, evaluation_id: int, bit_widths: str | None = None, key: str | None = None) -> str:
    """The bit widths of the stage that would be exported."""
    with database.read() as session:
        wanted = None if bit_widths is None else BitWidths.parse(bit_widths)
        _, stage = exports.stage_to_export(session, evaluation_id, wanted, key)
        return stage.bit_widths


def evaluated(database: Database, **fields: object) -> int:
    post(database, proposed=True, **(ONE | fields))
    lease = claim(database)
    work(database, lease)
    return lease.evaluation_id


def test_w2a2_is_exported_unless_other_bit_widths_are_asked_for(database: Database) -> None:
    evaluation_id = evaluated(database, bit_widths=["W4A4", "W2A2", "WFA2"])
    assert found(database, evaluation_id) == "W2A2"
    assert found(database, evaluation_id, "WFA2") == "WFA2"
    assert found(database, evaluation_id, "float") == "float"


def test_without_w2a2_the_bit_widths_that_rank_are_exported(database: Database) -> None:
    assert found(database, evaluated(database, bit_widths=["W4A4", "W3A3", "WFA2"])) == "W4A4"


def test_what_cannot_be_exported_says_why(database: Database) -> None:
    post(database, proposed=True, **(ONE | {"bit_widths": ["W2A2", "W3A3"]}))
    lease = claim(database)
    with pytest.raises(InvalidInput, match="is not trained yet in evaluation 1, which is running"):
        found(database, lease.evaluation_id)
    with pytest.raises(InvalidInput, match="use one of W2A2, W3A3, float"):
        found(database, lease.evaluation_id, "W8A8")
    with pytest.raises(InvalidInput, match="evaluation: 99 does not exist"):
        found(database, 99)
    for status in ("done", "diverged", "done"):
        with database.write() as session:
            stage = results.next_stage(session, lease)
        assert stage is not None
        with database.write() as session:
            accept_stage(session, lease, stage.stage_id, status=status)
    with pytest.raises(InvalidInput, match="diverged in evaluation 1"):
        found(database, lease.evaluation_id, "W2A2")
    assert found(database, lease.evaluation_id, "W3A3") == "W3A3"


def test_retrainings_of_two_recipes_are_told_apart_by_key(database: Database) -> None:
    evaluation_id = evaluated(database)
    assert evaluated(database, recipe=recipe(retraining_epochs=3)) == evaluation_id
    with pytest.raises(InvalidInput, match=r"was trained by 2 recipes.*--stage"):
        found(database, evaluation_id)
    keys = [stage.key for stage in rows(database, Stage)]
    assert len(keys) == 3
    float_key = stages_of(database, evaluation_id)["float"].key
    for key in keys:
        expected = "float" if key == float_key else "W2A2"
        assert found(database, evaluation_id, key=key[:12]) == expected
    with pytest.raises(InvalidInput, match="is no stage of evaluation"):
        found(database, evaluation_id, key="nonesuch")


@pytest.fixture
def trained(sqlite_database: Database, tmp_path: Path) -> tuple[Evaluation, dict[str, Stage], Artifacts]:
    post(sqlite_database, **ONE)
    artifacts = Artifacts(tmp_path / "artifacts")
    worker = Worker(sqlite_database, WorkerSettings(data_root=tmp_path, artifacts=artifacts, poll_seconds=0.01))
    while worker.run_one():
        pass
    (evaluation,) = rows(sqlite_database, Evaluation)
    return evaluation, stages_of(sqlite_database, evaluation.id), artifacts


def test_a_workers_network_is_exported_in_every_format(
    trained: tuple[Evaluation, dict[str, Stage], Artifacts],
) -> None:
    evaluation, stages, artifacts = trained
    packed = unpack(exports.export_stage(evaluation, stages["W2A2"], artifacts, "packed"))
    assert packed.network.description.stage == stages["W2A2"].key
    assert packed.network.description.architecture == "basic-L8-D3"
    stored = artifacts.read_network(stages["W2A2"].key, stages["W2A2"].network_digest)
    assert exports.export_stage(evaluation, stages["W2A2"], artifacts, "safetensors") == stored
    assert b"quantrank" in exports.export_stage(evaluation, stages["float"], artifacts, "onnx")


def test_a_network_that_an_earlier_release_stored_is_exported_all_the_same(
    trained: tuple[Evaluation, dict[str, Stage], Artifacts],
) -> None:
    evaluation, stages, artifacts = trained
    stage = stages["W2A2"]
    expected = exports.trained_network(evaluation, stage, artifacts)
    saved = from_bytes(artifacts.read_network(stage.key, stage.network_digest))
    assert saved is not None
    # By its stage's key, and without a description.
    artifacts.write(network_file(stage.key, None), to_bytes(saved[0], {"stage": stage.key}))
    stage.network_digest = None
    again = exports.trained_network(evaluation, stage, artifacts)
    assert again.description == expected.description
    assert all(np.array_equal(again.state[name], values) for name, values in expected.state.items())


def test_a_network_whose_file_is_gone_or_damaged_says_so(
    trained: tuple[Evaluation, dict[str, Stage], Artifacts],
) -> None:
    evaluation, stages, artifacts = trained
    stage = stages["W2A2"]
    name = network_file(stage.key, stage.network_digest)
    content = artifacts.read_network(stage.key, stage.network_digest)
    for damaged in (content[:1000], content[:-1] + bytes([content[-1] ^ 1])):
        artifacts.write(name, damaged)
        with pytest.raises(InvalidInput, match=f"has a damaged network in .*{name}") as refused:
            exports.export_stage(evaluation, stage, artifacts, "onnx")
    artifacts.remove(name)
    with pytest.raises(InvalidInput, match=f"has no network in .*{name}"):
        exports.export_stage(evaluation, stage, artifacts, "onnx")
    assert "QUANTRANK_ARTIFACTS" in refused.value.remedy
    again = "quantrank evaluate basic-L8-D3 --task digits --bit-widths W2A2 --seed 0"
    assert again in refused.value.remedy


def test_a_damaged_network_of_an_earlier_release_says_so(
    trained: tuple[Evaluation, dict[str, Stage], Artifacts],
) -> None:
    evaluation, stages, artifacts = trained
    stage = stages["W2A2"]
    content = artifacts.read_network(stage.key, stage.network_digest)
    stage.network_digest = None
    artifacts.write(network_file(stage.key, None), content[:1000])
    with pytest.raises(InvalidInput, match="is no whole safetensors file"):
        exports.export_stage(evaluation, stage, artifacts, "onnx")
