"""What a key may ask for: searches at once, and how large."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from callers import BODY, bearer, make_key, server
from sqlalchemy import update

from searcher.database import Database
from searcher.tables import Search
from service.access.roles import Role
from service.cli import main


def test_a_key_has_no_more_searches_running_than_it_may(database: Database, tmp_path: Path) -> None:
    client, key = server(database, tmp_path), bearer(make_key(database, Role.SUBMIT, "ada", max_running=2))
    other = bearer(make_key(database, Role.SUBMIT, "bob", max_running=2))
    first, second = (client.post("/search", json=BODY, headers=key) for _ in range(2))

    refused = client.post("/search", json=BODY, headers=key)

    assert (first.status_code, second.status_code, refused.status_code) == (201, 201, 429)
    (told,) = refused.json()["errors"]
    assert (told["field"], told["value"]) == ("max_running", 2)
    assert "'ada'" in told["problem"]
    assert "cancel one" in told["remedy"]
    assert client.post("/search", json=BODY, headers=other).status_code == 201
    client.post(first.json()["links"]["cancel"], headers=key)
    assert client.post("/search", json=BODY, headers=key).status_code == 201


def test_posting_at_once_brings_no_more_searches_than_a_key_may_have(database: Database, tmp_path: Path) -> None:
    key, posts = bearer(make_key(database, Role.SUBMIT, max_running=3)), 8
    barrier = Barrier(posts)

    def post(_: int) -> int:
        client = server(database, tmp_path)
        client.get("/searches", headers=key)  # the app is built, the key's use noted
        barrier.wait(30)
        return client.post("/search", json=BODY, headers=key).status_code

    with ThreadPoolExecutor(posts) as threads:
        statuses = sorted(threads.map(post, range(posts)))

    assert statuses == [201] * 3 + [429] * 5


@pytest.mark.parametrize(
    ("allowances", "asked", "field", "value"),
    [
        ({"max_parameter_budget": 20_000}, {"parameter_budget": 20_001}, "parameter_budget", 20_001),
        ({"max_parameter_budget": 20_000}, {"model_bytes_budget": 5000}, "parameter_budget", None),
        ({"max_model_bytes_budget": 5000}, {"model_bytes_budget": 5001}, "model_bytes_budget", 5001),
        ({"max_bit_operations_budget": 10}, {"parameter_budget": 20_000}, "bit_operations_budget", None),
        ({"max_evaluations": 7}, {"parameter_budget": 20_000}, "max_evaluations", None),
        ({"max_evaluations": 7}, {"parameter_budget": 20_000, "max_evaluations": 8}, "max_evaluations", 8),
    ],
)
def test_a_key_asks_for_no_larger_search_than_it_may(
    sqlite_database: Database, tmp_path: Path, allowances: Any, asked: Any, field: str, value: int | None
) -> None:
    client, key = server(sqlite_database, tmp_path), make_key(sqlite_database, Role.SUBMIT, **allowances)
    (most,) = allowances.values()

    refused = client.post("/search", json={"task": "digits", **asked}, headers=bearer(key))

    assert refused.status_code == 403
    (told,) = refused.json()["errors"]
    assert (told["field"], told["value"]) == (field, value)
    assert f"at most {most}" in told["remedy"]
    assert client.get("/searches", headers=bearer(key)).json()["searches"] == []


def test_what_a_key_may_just_ask_for_it_gets(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path)
    key = make_key(sqlite_database, Role.SUBMIT, max_parameter_budget=20_000, max_evaluations=7)

    assert client.post("/search", json=BODY | {"max_evaluations": 7}, headers=bearer(key)).status_code == 201


def test_extending_is_held_to_the_same(database: Database, tmp_path: Path) -> None:
    client = server(database, tmp_path)
    key = bearer(make_key(database, Role.SUBMIT, max_running=1, max_evaluations=7))
    body = BODY | {"max_evaluations": 7}
    finished = client.post("/search", json=body, headers=key).json()
    with database.write() as session:
        session.execute(update(Search).values(status="finished", ended_by="max_evaluations"))
    running = client.post("/search", json=body, headers=key).json()

    for limits, links, status in [
        ({"max_evaluations": 8}, running["links"], 403),
        ({"max_evaluations": None}, running["links"], 403),
        ({"max_evaluations": 5}, running["links"], 200),
        ({"time_limit_s": 60.0}, finished["links"], 429),
    ]:
        assert client.post(links["extend"], json=limits, headers=key).status_code == status, limits
    client.post(running["links"]["cancel"], headers=key)

    assert client.post(finished["links"]["extend"], json={"time_limit_s": 60.0}, headers=key).status_code == 200


def test_limits_are_given_where_a_key_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))

    assert main(["keys", "create", "ada", "--max-running", "3", "--max-parameter-budget", "40000", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out

    assert (made["max_running"], made["max_parameter_budget"], made["max_evaluations"]) == (3, 40_000, None)
    assert "running 3" in listed
    for unusable in ("0", "-1", "9" * 20):
        assert main(["keys", "create", "bob", "--max-running", unusable]) == 2
        assert "max_running" in capsys.readouterr().err
