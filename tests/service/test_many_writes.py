"""Three times as many writes at once as a server has threads: each is done once, and the server answers meanwhile."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from callers import bearer, make_key
from fastapi import FastAPI
from fastapi.testclient import TestClient
from live import serving
from loops import run_async
from playing import rows
from sqlalchemy import select

from searcher.database import Database
from searcher.tables import ApiKey, Search, SignIn
from service import lanes
from service.access.roles import Role
from service.app import create_app
from service.description import operations
from service.routes import plotly
from service.settings import Settings

AT_ONCE = 120
WRITING = 4
"""Most that write at the same time; on SQLite it is one."""
BODY = {"task": "digits", "parameter_budget": 20_000, "architectures": ["basic-L8-D3"]}

Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


@pytest.fixture
def app(database: Database, tmp_path: Path) -> FastAPI:
    return create_app(Settings(home=tmp_path, database_url=None, requests_per_minute=10**6), database)


def all_at_once(app: FastAPI, asks: list[Ask]) -> list[httpx.Response]:
    """The answers to requests that are all sent before any is answered, while the health checks answer too."""

    async def ask(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=100, limits=limits) as client:
            answers = asyncio.gather(*(each(client) for each in asks))
            while not answers.done():
                for path in ("/healthz", "/readyz"):
                    assert (await client.get(path)).status_code == 200
            return await answers

    with serving(app) as url:
        return run_async(ask(url))


def post(path: str, headers: dict[str, str] | None = None, **body: Any) -> Ask:
    return lambda client: client.post(path, headers=headers, json=body)


def statuses(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(each.status_code for each in answers))


def test_each_sort_of_write_is_done_once(app: FastAPI, database: Database) -> None:
    posted = all_at_once(app, [post("/search", **BODY)] * AT_ONCE)
    paths = [each.headers["location"] for each in posted]
    extended = all_at_once(app, [post(f"{path}/extend", max_evaluations=3) for path in paths])
    cancelled = all_at_once(app, [post(f"{path}/cancel") for path in paths])
    found = rows(database, Search)
    deleted = all_at_once(app, [lambda client, path=path: client.delete(path) for path in paths])

    assert statuses(posted) == {201: AT_ONCE}
    assert statuses(extended) == statuses(cancelled) == {200: AT_ONCE}
    assert len(set(paths)) == len(found) == AT_ONCE
    assert {(each.status, each.max_evaluations) for each in found} == {("cancelled", 3)}
    assert statuses(deleted) == {204: AT_ONCE}
    assert rows(database, Search) == []


def test_a_limited_key_gets_as_many_as_it_may_have(app: FastAPI, database: Database) -> None:
    key = bearer(make_key(database, Role.SUBMIT, max_running=7))

    answers = all_at_once(app, [post("/search", key, **BODY)] * AT_ONCE)

    assert statuses(answers) == {201: 7, 429: AT_ONCE - 7}
    assert len(rows(database, Search)) == 7


def test_one_idempotency_key_stands_for_one_search(app: FastAPI, database: Database) -> None:
    answers = all_at_once(app, [post("/search", {"Idempotency-Key": "one"}, **BODY)] * AT_ONCE)

    assert statuses(answers) == {201: 1, 200: AT_ONCE - 1}
    assert len({each.headers["location"] for each in answers}) == len(rows(database, Search)) == 1


def test_everybody_who_signs_in_is_let_in(app: FastAPI, database: Database) -> None:
    key = make_key(database, Role.READ)

    def sign_in(client: httpx.AsyncClient) -> Coroutine[Any, Any, httpx.Response]:
        origin = {"Origin": str(client.base_url).rstrip("/")}
        return client.post("/sign-in", data={"key": key}, headers=origin)

    answers = all_at_once(app, [sign_in] * AT_ONCE)

    assert statuses(answers) == {303: AT_ONCE}
    assert len(rows(database, SignIn)) == AT_ONCE


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Holds what every write of a key waits for: the key's row, or on SQLite the only writer's place."""
    with database.write() as session:
        session.execute(select(ApiKey).with_for_update())
        yield


@pytest.mark.slow
def test_a_write_whose_turn_does_not_come_in_time_is_told_to_come_again(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bearer(make_key(database, Role.SUBMIT))
    monkeypatch.setattr(lanes, "MOST_WAIT_SECONDS", 4.0)  # longer than the health checks wait for the database

    with locked(database):
        answers = all_at_once(app, [post("/search", key, **BODY)] * 20)

    assert statuses(answers) == {503: 20}
    assert {each.headers["content-type"] for each in answers} == {"application/problem+json"}
    assert all(int(each.headers["retry-after"]) > 0 for each in answers)
    assert rows(database, Search) == []
    assert statuses(all_at_once(app, [post("/search", key, **BODY)] * 20)) == {201: 20}


def test_who_leaves_gives_up_their_place(app: FastAPI, database: Database) -> None:
    key = bearer(make_key(database, Role.SUBMIT))

    async def leave(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            with locked(database):
                asked = [asyncio.create_task(client.post("/search", json=BODY, headers=key)) for _ in range(20)]
                await in_progress(client, lambda count: count > 20)
                for each in asked:
                    each.cancel()
                # Those that have begun, the one that asks, and one that notes when the key was used.
                await in_progress(client, lambda count: count <= WRITING + 2)
            assert (await client.post("/search", json=BODY, headers=key)).status_code == 201

    with serving(app) as url:
        run_async(leave(url))
    assert len(rows(database, Search)) <= 1 + WRITING


async def in_progress(client: httpx.AsyncClient, holds: Callable[[float], bool]) -> None:
    """Returns once so many requests are in progress, the one that asks among them."""
    async with asyncio.timeout(20):  # shorter than requests wait for their turn
        while True:
            told = re.search(r"^quantrank_http_requests_in_progress (\S+)", (await client.get("/metrics")).text, re.M)
            if told is not None and holds(float(told[1])):
                return


def test_nothing_but_files_takes_a_thread_that_all_share(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    run_sync = anyio.to_thread.run_sync

    async def noted(call: Any, *given: Any, **named: Any) -> Any:
        taken.append(call)
        return await run_sync(call, *given, **named)

    monkeypatch.setattr(anyio.to_thread, "run_sync", noted)
    client = TestClient(app, base_url="http://127.0.0.1")
    client.post(client.post("/search", json=BODY).json()["links"]["cancel"])
    described = [(method, path) for method, path, _ in operations(app.openapi())]
    for method, path in sorted([*described, *(("get", path) for path in PAGES)], key=lambda each: each[0] != "get"):
        client.request(method, re.sub(r"{[^}]+}", "1", path))
    client.post("/sign-in", data={"key": "x"}, headers={"Origin": "http://127.0.0.1"})

    assert taken == []
    client.get("/static/style.css")
    assert taken != []


PAGES = (
    *("/", "/docs", "/sign-in", "/ui/searches/new", "/ui/searches/1", "/ui/searches/1/charts", "/ui/searches/1/curves"),
    *("/ui/leaderboard", "/ui/workers", "/ui/compare", "/ui/evaluations/1", "/ui/evaluations/1/measurements?stage=x"),
    plotly.PATH,
)
