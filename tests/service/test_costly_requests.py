"""Requests that would take minutes are refused before anything is computed; others hold no lock while they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import searcher.plan
from searcher.database import Database
from service.app import create_app
from service.routes import searches
from service.settings import Settings

DEEP = [1196 - 6 * index for index in range(32)]
COSTLY: dict[str, dict[str, Any]] = {
    "depths": {"depths": DEEP, "widths": list(range(3, 103)), "rungs": [0.2, 0.3, 0.4, 0.5]},
    "depths that do not exist": {"depths": [10**6] * 32, "widths": list(range(3, 103)), "rungs": [0.5]},
    "architectures": {
        "architectures": [f"basic-L1202-D{width}" for width in range(3, 903)],
        "rungs": [0.2, 0.3, 0.4, 0.5],
    },
}


@pytest.fixture
def client(database: Database, tmp_path: Path) -> TestClient:
    app = create_app(Settings(home=tmp_path, database_url=None), database)
    return TestClient(app, base_url="http://127.0.0.1")


@pytest.mark.parametrize("path", ["/search", "/search/estimate"])
@pytest.mark.parametrize("name", COSTLY)
def test_what_would_take_minutes_is_refused_before_anything_is_sized(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    def sized(*_: Any) -> None:
        raise AssertionError("it was sized")

    monkeypatch.setattr(searcher.plan, "enumerate_candidates", sized)

    answer = client.post(path, json={"task": "digits", "parameter_budget": 10**8, **COSTLY[name]})

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == name.split()[0]
    assert "layers (depths x blocks x widths x rungs)" in error["problem"]
    assert "ask for at most 4,000,000 in one search" in error["remedy"]


def test_stages_of_rungs_count_too(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher.plan, "MOST_STAGES", 5)
    asked = {"task": "digits", "parameter_budget": 10**6, "architectures": ["basic-L8-D3"], "bit_widths": ["W2A2"]}

    assert client.post("/search/estimate", json=asked | {"rungs": [0.5]}).status_code == 200
    assert client.post("/search/estimate", json=asked | {"rungs": [0.5, 0.7]}).status_code == 422


def test_keys_are_computed_before_the_transaction_that_shuts_others_out(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    keys_of_plan = searches.keys_of_plan

    def noted(plan: Any) -> Any:
        held.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return keys_of_plan(plan)

    monkeypatch.setattr(searches, "keys_of_plan", noted)
    monkeypatch.setattr("searcher.searches.keys_of_plan", lambda _: pytest.fail("computed again"))

    asked = {"task": "digits", "parameter_budget": 10**6, "architectures": ["basic-L8-D3"]}

    assert client.post("/search", json=asked).status_code == 201
    assert held == [0]
