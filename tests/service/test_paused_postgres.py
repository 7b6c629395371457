"""A PostgreSQL that accepts and never answers, as one whose container is paused, or behind a network that swallows."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from callers import bearer, make_key
from live import serving
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


class Network:
    """A way to a PostgreSQL that can be closed: connections are accepted then, by the kernel, and nothing is passed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.open = threading.Event()
        self.open.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.open.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                self.open.wait()
                target.sendall(received)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def network(postgres_database: Database) -> Iterator[Network]:
    with postgres_database.read() as session:
        folder, port = (session.scalar(text(f"SHOW {name}")) for name in ("unix_socket_directories", "port"))
    with closing(Network(f"{folder}/.s.PGSQL.{port}")) as network:
        yield network


@pytest.fixture
def far_database(postgres_database: Database, network: Network) -> Iterator[Database]:
    """The database by way of the network."""
    url = postgres_database.url.difference_update_query(["host"]).set(host="127.0.0.1", port=network.port)
    database = Database(url.render_as_string(hide_password=False))
    yield database
    database.dispose()


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


def test_a_statement_may_take_longer_than_a_server_is_silent(far_database: Database) -> None:
    with far_database.read() as session:
        session.execute(text("SELECT pg_sleep(4.5)"))
