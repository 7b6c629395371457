"""Trained networks downloaded over REST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient
from playing import play_worker, rows

from qcore import load_network
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.tables import Stage
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from service.app import create_app
from service.settings import Settings

SCHEDULE = {"schedule": {"epochs": 1, "warmup_epochs": 0}}
BODY = {
    "task": "digits",
    "parameter_budget": 20_000,
    "architectures": ["basic-L8-D3"],
    "bit_widths": ["W2A2"],
    "recipe": {"float_part": SCHEDULE, "retraining": SCHEDULE},
}


@pytest.fixture
def trained(sqlite_database: Database, tmp_path: Path) -> TestClient:
    """An API whose evaluation 1 is trained."""
    settings = Settings(home=tmp_path, database_url=None, artifacts=str(tmp_path / "artifacts"))
    client = TestClient(create_app(settings, sqlite_database), base_url="http://127.0.0.1")
    client.post("/search", json=BODY)
    worker = Worker(sqlite_database, WorkerSettings(tmp_path / "datasets", Artifacts(tmp_path / "artifacts")))
    while worker.run_one():
        pass
    return client


def test_the_trained_network_is_downloaded_and_loads(trained: TestClient, tmp_path: Path) -> None:
    quantized = trained.get("/evaluations/1/model", params={"bit_widths": "W2A2"})
    in_float = trained.get("/evaluations/1/model", params={"bit_widths": "float"})
    (tmp_path / "model.safetensors").write_bytes(quantized.content)

    assert load_network(tmp_path / "model.safetensors").eval()
    assert trained.get("/evaluations/1/model").content == quantized.content != in_float.content
    assert quantized.headers["content-type"] == "application/octet-stream"
    name = 'attachment; filename="basic-L8-D3_digits_W2A2.safetensors"'
    assert quantized.headers["content-disposition"] == name
    tag = quantized.headers["etag"]
    assert trained.get("/evaluations/1/model", headers={"If-None-Match": tag}).status_code == 304
    assert trained.get("/evaluations/1/model", headers={"If-None-Match": '"other"'}).status_code == 200

    answered = trained.get("/evaluations/1/model.onnx")
    session = onnxruntime.InferenceSession(answered.content)
    image = np.zeros((1, 1, 8, 8), np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: image})
    assert logits.shape == (1, 10)
    assert answered.headers["content-disposition"].endswith('_W2A2.onnx"')
    with_codes = trained.get("/evaluations/1/model.onnx", params={"with_codes": True})
    assert len(onnxruntime.InferenceSession(with_codes.content).get_outputs()) > 1
    assert with_codes.headers["etag"] != answered.headers["etag"]


def test_what_cannot_be_downloaded_says_why(client: TestClient, database: Database) -> None:
    search = client.post("/search", json=BODY).json()
    (number,) = play_worker(database, search["id"], network_digest="ab" * 32)
    path = f"/evaluations/{number}/model"
    key = next(stage.key for stage in rows(database, Stage) if stage.bit_widths == "W2A2")

    def refused(status: int, path: str, **query: Any) -> str:
        answer = client.get(path, params=query)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return json.dumps(answer.json())

    assert "evaluation 99 does not exist" in refused(404, "/evaluations/99/model")
    assert "use one of W2A2, float" in refused(422, path, bit_widths="W8A8")
    assert "bit_widths" in refused(422, path, bit_widths="W1A1")
    assert "is no stage of evaluation" in refused(422, path, stage="zz")
    assert "has no network in" in refused(404, path, stage=key[:9])
    assert "has no network in" in refused(404, f"{path}.onnx")


def test_a_store_that_fails_is_no_fault_of_the_request(client: TestClient, database: Database, tmp_path: Path) -> None:
    search = client.post("/search", json=BODY).json()
    (number,) = play_worker(database, search["id"], network_digest="ab" * 32)
    (tmp_path / "artifacts").write_text("no folder")

    answer = client.get(f"/evaluations/{number}/model")

    assert answer.status_code == 503
    assert "cannot be read" in answer.json()["detail"]
