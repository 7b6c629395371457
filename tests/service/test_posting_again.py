"""Searches posted again under the same Idempotency-Key: by clients that did not hear the answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from callers import bearer, make_key
from fastapi.testclient import TestClient
from playing import rows
from sqlalchemy import update

from searcher.database import Database, database_now
from searcher.tables import ApiKey, IdempotencyKey, Search
from service.access.roles import Role
from service.app import create_app
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000, "architectures": ["basic-L8-D3"]}


def post(client: TestClient, key: str | None, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    named = {} if key is None else {"Idempotency-Key": key}
    return client.post("/search", json=BODY | changes, headers=named | (headers or {}))


def test_the_same_request_under_the_same_key_is_the_same_search(client: TestClient, database: Database) -> None:
    first, again, other, unnamed = (post(client, key) for key in ("one", "one", "two", None))

    assert [each.status_code for each in (first, again, other, unnamed)] == [201, 200, 201, 201]
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert len({each.json()["id"] for each in (first, other, unnamed)}) == len(rows(database, Search)) == 3


def test_what_is_posted_again_shows_how_the_search_is_now(client: TestClient) -> None:
    first = post(client, "one").json()
    client.post(first["links"]["cancel"])

    assert post(client, "one").json()["status"] == "cancelled"


def test_how_a_request_is_written_does_not_matter(client: TestClient) -> None:
    first = post(client, "one").json()

    assert post(client, "one", seeds=[0], engine="optuna").json()["id"] == first["id"]


def test_another_request_under_the_same_key_is_refused(client: TestClient, database: Database) -> None:
    first = post(client, "one").json()

    refused = post(client, "one", seeds=[1])

    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert f"search {first['id']}" in refused.json()["detail"]
    assert "send a new key" in refused.json()["detail"]
    assert len(rows(database, Search)) == 1


def test_a_request_that_was_refused_leaves_its_key_free(client: TestClient) -> None:
    assert post(client, "one", parameter_budget=5).status_code == 422

    assert post(client, "one").status_code == 201


def test_keys_of_different_posters_have_nothing_to_do_with_each_other(database: Database, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, database_url=None), database, on_loopback=False)
    client = TestClient(app, base_url="http://quantrank.example.org")
    ada, bob = (bearer(make_key(database, Role.SUBMIT, name)) for name in ("ada", "bob"))

    first, other, again = post(client, "one", ada), post(client, "one", bob, seeds=[1]), post(client, "one", ada)

    assert [each.status_code for each in (first, other, again)] == [201, 201, 200]
    assert other.json()["id"] != first.json()["id"] == again.json()["id"]


@pytest.mark.parametrize("most_running", [None, 1])
def test_posts_at_the_same_time_create_one_search(database: Database, tmp_path: Path, most_running: int | None) -> None:
    app = create_app(Settings(home=tmp_path, database_url=None), database, on_loopback=False)
    client, key = TestClient(app, base_url="http://quantrank.example.org"), bearer(make_key(database, Role.SUBMIT))
    with database.write() as session:
        session.execute(update(ApiKey).values(max_running=most_running))
    barrier = threading.Barrier(6)

    def post_at_once(_: int) -> Any:
        barrier.wait(30)
        return post(client, "one", key)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(post_at_once, range(6)))

    assert sorted(each.status_code for each in answers) == [200] * 5 + [201]
    assert len({each.json()["id"] for each in answers}) == len(rows(database, Search)) == 1


def test_a_key_is_forgotten_after_a_day(client: TestClient, database: Database) -> None:
    first = post(client, "one").json()
    (kept,) = rows(database, IdempotencyKey)
    with database.write() as session:
        session.execute(update(IdempotencyKey).values(expires_at=database_now() - 1))

    again = post(client, "one", seeds=[1])

    assert kept.expires_at - first_created(database, first["id"]) == pytest.approx(24 * 3600, abs=60)
    assert again.status_code == 201
    assert len(rows(database, IdempotencyKey)) == 1


def first_created(database: Database, search_id: int) -> float:
    return float(rows(database, Search, id=search_id)[0].created_at)


def test_a_deleted_search_is_not_answered_any_more_and_its_number_is_nobody_elses(client: TestClient) -> None:
    first = post(client, "one").json()
    client.post(first["links"]["cancel"])
    assert client.delete(first["links"]["self"]).status_code == 204

    again = post(client, "one")

    assert again.status_code == 201
    assert again.json()["id"] > first["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "with space"])
def test_a_key_that_is_none_is_refused(client: TestClient, key: str) -> None:
    refused = post(client, key)

    assert refused.status_code == 422
    assert [each["field"] for each in refused.json()["errors"]] == ["Idempotency-Key"]
