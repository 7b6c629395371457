"""A PostgreSQL that accepts and never answers, as one whose container is paused, or behind a network that swallows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from callers import bearer, make_key
from live import serving
from networks import Network
from sqlalchemy import text

from searcher.database import Database
from service.access.roles import Role
from service.app import create_app
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000, "architectures": ["basic-L8-D3"]}
UNAVAILABLE = (
    "/searches",
    "/searches/1",
    "/leaderboard?task=digits",
    "/workers",
    "/ui/workers",
    "/evaluations/1/model",
)


@pytest.mark.slow
def test_a_server_says_that_its_database_does_not_answer_and_goes_on_when_it_does(
    far_database: Database, postgres_database: Database, network: Network, tmp_path: Path
) -> None:
    key = bearer(make_key(postgres_database, Role.SUBMIT))
    app = create_app(Settings(home=tmp_path), far_database)
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(16) as pool:

        def timed(path: str, **options: Any) -> tuple[httpx.Response, float]:
            started = time.monotonic()
            answer = client.request(options.pop("method", "GET"), path, **options)
            return answer, time.monotonic() - started

        assert client.post("/search", json=BODY, headers=key).status_code == 201
        with ExitStack() as stack:  # so many connections are open, and will be taken up again
            for _ in range(16):
                stack.enter_context(far_database.read()).execute(text("SELECT 1"))
        network.open.clear()

        healthy, ready = pool.submit(timed, "/healthz"), pool.submit(timed, "/readyz")
        others = [pool.submit(timed, path) for path in UNAVAILABLE]
        others += [pool.submit(timed, "/search", method="POST", json=BODY) for _ in range(6)]
        others.append(pool.submit(timed, "/searches", headers=key))
        answers = [each.result() for each in others]
        later = timed("/searches")

        assert (healthy.result()[0].status_code, ready.result()[0].status_code) == (200, 503)
        assert max(healthy.result()[1], ready.result()[1]) < 3
        for answer, seconds in [*answers, later]:
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert int(answer.headers["retry-after"]) > 0
            assert seconds < 10

        network.open.set()
        deadline = time.monotonic() + 20
        while timed("/readyz")[0].status_code != 200:
            assert time.monotonic() < deadline
        assert client.post("/search", json=BODY, headers=key).status_code == 201


@pytest.mark.slow
def test_a_statement_may_take_longer_than_a_server_is_silent(far_database: Database) -> None:
    with far_database.read() as session:
        session.execute(text("SELECT pg_sleep(4.5)"))
