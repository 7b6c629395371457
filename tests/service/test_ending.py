"""``quantrank serve`` ends at SIGTERM, whatever its threads are at."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from playing import rows

from searcher.database import Database
from searcher.tables import Search

GRACE_SECONDS = 10
BUSY = 12
SERVE = "from service.cli import main; raise SystemExit(main(['serve', '--port', '0', '--workers', '0']))"
# A route that computes for ever, in as many threads as there are for it.
COMPUTE = (
    "import service.routes.workers as found\ndef compute(*given):\n    while True: pass\nfound.list_workers = compute"
)


@contextmanager
def serving(home: Path, program: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    command = [sys.executable, "-c", program]
    server = subprocess.Popen(
        command,
        env={**inherited, "QUANTRANK_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server, server.stdout.readline().split("ready at ")[1].strip()
    finally:
        server.kill()
        server.communicate()


def ask_in_the_background(url: str, ask: Callable[[httpx.Client], httpx.Response]) -> list[threading.Thread]:
    """Threads that wait for answers, which are to be none or to come again; returns once the server works on them."""

    def wait() -> None:
        with httpx.Client(base_url=url, timeout=60) as client, suppress(httpx.TransportError):
            assert ask(client).status_code == 503

    threads = [threading.Thread(target=wait) for _ in range(BUSY)]
    for thread in threads:
        thread.start()
    deadline, in_progress = time.monotonic() + 60, 0.0
    with httpx.Client(base_url=url, timeout=60) as client:
        while in_progress <= BUSY:  # the one that asks is among them
            assert time.monotonic() < deadline
            told = re.search(r"^quantrank_http_requests_in_progress (\S+)", client.get("/metrics").text, re.MULTILINE)
            assert told is not None
            in_progress = float(told[1])
    return threads


def end(server: subprocess.Popen[str], threads: list[threading.Thread]) -> float:
    """Ends a server as its host would; seconds that it took."""
    started = time.monotonic()
    server.terminate()
    assert server.wait(60) == 0
    took = time.monotonic() - started
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return took


pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.mark.slow
def test_beside_threads_that_compute_without_end(tmp_path: Path) -> None:
    with serving(tmp_path, f"{COMPUTE}\n{SERVE}") as (server, url):
        threads = ask_in_the_background(url, lambda client: client.get("/workers"))

        assert end(server, threads) < GRACE_SECONDS


@pytest.mark.slow
def test_beside_writes_that_wait_for_another_and_none_of_them_is_stored(tmp_path: Path) -> None:
    body = {"task": "digits", "parameter_budget": 20_000}
    with serving(tmp_path, SERVE) as (server, url):
        assert httpx.post(f"{url}/search", json=body, timeout=60).status_code == 201
        with closing(sqlite3.connect(tmp_path / "quantrank.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            threads = ask_in_the_background(url, lambda client: client.post("/search", json=body))

            assert end(server, threads) < GRACE_SECONDS
    database = Database(f"sqlite:///{tmp_path / 'quantrank.db'}")
    assert len(rows(database, Search)) == 1
    database.dispose()
