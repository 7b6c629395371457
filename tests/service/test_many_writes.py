"""Three times as many writes at once as a server has threads: each is done once, and the server answers meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from callers import bearer, make_key
from fastapi import FastAPI
from fastapi.routing import APIRoute
from live import serving
from playing import rows

from searcher.database import Database
from searcher.tables import Search, SignIn
from service.access.roles import Role
from service.app import create_app
from service.settings import Settings

AT_ONCE = 120
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
        return asyncio.run(ask(url))


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


def test_no_route_takes_a_thread_that_others_share(app: FastAPI) -> None:
    """What FastAPI would run in the pool of all routes: a function that is no coroutine."""

    def blocking(dependant: Any) -> list[Any]:
        own = [] if dependant.call is None or asyncio.iscoroutinefunction(dependant.call) else [dependant.call]
        return own + [found for each in dependant.dependencies for found in blocking(each)]

    assert [found for route in app.routes if isinstance(route, APIRoute) for found in blocking(route.dependant)] == []
