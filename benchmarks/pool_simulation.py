"""Predicts what a pool of up to 10,000 workers loses to its database: a discrete-event simulation.

    python -m benchmarks.pool_simulation                    # the tables of docs/scaling.md, two minutes
    python -m benchmarks.pool_simulation --check FILE...    # beside what benchmarks/claims.py measured

Workers go round: they ask for an evaluation, run it with its epochs, renewing their lease beside it, and store its
stages. What they ask the database takes its cores and, for a part of the time, their search's turn; both are given
out first come, first served. What each step takes is measured (``pool_costs.py``), not assumed; what a network adds per
statement, how many cores the database has, and how long evaluations are is said here.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simpy

from benchmarks.pool_costs import OUTPUT as COSTS
from benchmarks.pool_costs import Cost
from searcher.worker import _LARGE_POOL as LARGE_POOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Steps = Iterator[simpy.Event]

OF_AN_EVALUATION = ("proposing", "between", "evaluation", "renewal_at_start")
SPREAD = 0.2
"""Evaluations last up to so much longer or shorter than the mean: candidates differ."""
PARTS = 4
"""Epochs and renewals of an evaluation come in so many parts, each of which costs what all in it do."""
SLICE_SECONDS = 0.005
"""After which a process leaves its core to others that wait."""
WARM_UP, COUNTED = 1, 2
"""Evaluations of each worker, on average, before and while what happens is counted."""


@dataclass(frozen=True)
class Costs:
    """What was measured, by purpose; see ``pool_costs.py``."""

    by_purpose: dict[str, Cost]
    claim_ms: float
    server_share: float
    """Of the time until an answer comes, what is PostgreSQL's processor time."""
    client_ms: float
    """Of the worker's processor, an evaluation."""

    @classmethod
    def read(cls, path: Path = COSTS) -> Costs:
        found = json.loads(path.read_text())
        # One worker and the database take turns: what passed beyond both their processors' time was others' doing, for
        # the most part. Waiting for disks is lost with it, which the check against measured pools answers for.
        busy_ms = found["client_processor_ms"] + found["server_processor_ms"]
        undisturbed = min(1.0, busy_ms / found["milliseconds_an_evaluation"])
        by_purpose = {name: _scaled(Cost(**each), undisturbed) for name, each in found["costs"].items()}
        asked = sum(by_purpose[name].database_ms for name in OF_AN_EVALUATION)
        server_share = min(1.0, found["server_processor_ms"] / asked)
        return cls(by_purpose, found["claim_ms"], server_share, found["client_processor_ms"])

    def own_ms(self, cost: Cost) -> float:
        """What a worker computes for what it asks: its processor time, shared out as the database's time is."""
        asked = sum(self.by_purpose[name].database_ms for name in OF_AN_EVALUATION)
        return self.client_ms * cost.database_ms / asked


def _scaled(cost: Cost, share: float) -> Cost:
    return replace(cost, database_ms=share * cost.database_ms, locked_ms=share * cost.locked_ms)


@dataclass(frozen=True)
class Pool:
    workers: int
    seconds: float
    """That an evaluation trains, on average."""
    epochs: int = 40
    """Of both stages together."""
    searches: int = 1
    """Among which the workers are divided."""
    cores: int = 8
    """That PostgreSQL has."""
    round_trip_ms: float = 0.5
    """Between a worker and the database, for each statement."""
    lease_seconds: float = 15.0
    one_host: bool = False
    """Workers and database share the cores, as where this was measured."""


@dataclass
class Counted:
    """What happened after the warm-up."""

    claims: list[float] = field(default_factory=list)
    """Seconds that the claiming statement took."""
    between: list[float] = field(default_factory=list)
    """Seconds from the end of an evaluation to the next."""
    rounds: list[float] = field(default_factory=list)
    """Seconds from the end of an evaluation to the end of the next."""
    training: float = 0.0
    core_seconds: float = 0.0
    locked: float = 0.0
    """Seconds that turns of searches were taken."""


class Simulation:
    """One pool; ``run`` says what it is like."""

    def __init__(self, pool: Pool, costs: Costs, seed: int = 0) -> None:
        self._pool, self._costs = pool, costs
        self._drawn = random.Random(seed)
        self._now = simpy.Environment()
        self._cores = simpy.Resource(self._now, pool.cores)
        self._rows = [simpy.Resource(self._now) for _ in range(pool.searches)]
        self._found = Counted()
        self._from, self._ended, self._over = math.inf, 0, self._now.event()

    def run(self) -> dict[str, float]:
        pool = self._pool
        for index in range(pool.workers):
            self._now.process(self._works(self._rows[index % pool.searches]))
        self._now.run(self._over)
        found, counted = self._found, self._now.now - self._from
        claims_ms = 1000 * np.array(found.claims or [np.inf])
        between_ms = 1000 * np.array(found.between or [np.inf])
        return {
            "workers": pool.workers,
            "seconds": pool.seconds,
            "evaluations_a_second": pool.workers / float(np.mean(found.rounds)),
            "claim_ms_median": float(np.median(claims_ms)),
            "claim_ms_p99": float(np.quantile(claims_ms, 0.99)),
            "next_evaluation_ms_p99": float(np.quantile(between_ms, 0.99)),
            "outside_percent": 100 * sum(found.between) / sum(found.rounds),
            "not_training_percent": 100 * (1 - found.training / sum(found.rounds)),
            "cores_percent": 100 * found.core_seconds / (pool.cores * counted),
            "locked_percent": 100 * found.locked / (pool.searches * counted),
        }

    def _works(self, row: simpy.Resource) -> Steps:
        pool, now = self._pool, self._now
        yield now.timeout(self._drawn.uniform(0, pool.seconds))
        while True:
            asked = now.now
            if pool.workers < LARGE_POOL:
                yield from self._asks("proposing", row)
            else:  # somebody proposes ahead, beside the training
                now.process(self._asks("proposing", row))
            yield from self._claims()
            yield from self._asks("between", row, less_ms=self._costs.claim_ms)
            between = now.now - asked
            holding = now.process(self._holds(row))
            seconds = pool.seconds * self._drawn.uniform(1 - SPREAD, 1 + SPREAD)
            yield from self._runs(row, seconds)
            if holding.is_alive:
                holding.interrupt()
            self._end(between, seconds, now.now - asked)

    def _end(self, between: float, training: float, whole: float) -> None:
        self._ended += 1
        if self._now.now >= self._from:
            self._found.between.append(between)
            self._found.training += training
            self._found.rounds.append(whole)
        if self._ended == WARM_UP * self._pool.workers:
            self._from = self._now.now
        elif self._ended == (WARM_UP + COUNTED) * self._pool.workers:
            self._over.succeed()

    def _claims(self) -> Steps:
        asked = self._now.now
        yield from self._takes(Cost(1, 1, self._costs.claim_ms), times=1.0)
        if asked >= self._from:
            self._found.claims.append(self._now.now - asked)

    def _runs(self, row: simpy.Resource, seconds: float) -> Steps:
        """Trains epoch by epoch, storing each, and at the end the stages."""
        pool = self._pool
        for _ in range(PARTS):
            yield self._now.timeout(seconds / PARTS)
            more = max(0, pool.epochs - 2) / PARTS  # two are in what an evaluation takes
            yield from self._asks("epoch", row, times=more)
        yield from self._asks("evaluation", row)

    def _holds(self, row: simpy.Resource) -> Steps:
        """Renews a lease until interrupted."""
        try:
            yield from self._asks("renewal_at_start", row)
            interval = max(self._pool.lease_seconds / 3, self._pool.seconds / PARTS)
            while True:
                yield self._now.timeout(interval)
                yield from self._asks("renewal", row, times=interval / (self._pool.lease_seconds / 3))
        except simpy.Interrupt:
            return

    def _asks(self, purpose: str, row: simpy.Resource, *, times: float = 1.0, less_ms: float = 0.0) -> Steps:
        """Everything that one purpose asks of the database, what is locked and what is not in one piece each."""
        cost = self._costs.by_purpose[purpose]
        database, own = max(0.0, cost.database_ms - less_ms), self._costs.own_ms(cost)
        if not times * database:
            return
        locked = min(1.0, cost.locked_ms / (database + own))
        yield from self._takes(cost, times * (1 - locked), less_ms)
        if locked:
            with row.request() as turn:
                yield turn
                started = self._now.now
                yield from self._takes(cost, times * locked, less_ms)
                self._found.locked += max(0.0, self._now.now - max(started, self._from))

    def _takes(self, cost: Cost, times: float, less_ms: float = 0.0) -> Steps:
        """The processors for what they do; what else passes is waiting: for disks, and for what is on the way."""
        database_ms, own_ms = max(0.0, cost.database_ms - less_ms), self._costs.own_ms(cost)
        server_ms = database_ms * self._costs.server_share
        on_cores, elsewhere = server_ms, database_ms - server_ms + cost.statements * self._pool.round_trip_ms
        if self._pool.one_host:
            on_cores += own_ms
        else:
            elsewhere += own_ms
        left = times * on_cores / 1000
        if self._now.now >= self._from:
            self._found.core_seconds += left
        while left > 0:
            with self._cores.request() as turn:
                yield turn
                yield self._now.timeout(min(left, SLICE_SECONDS))
            left -= SLICE_SECONDS
        yield self._now.timeout(times * elsewhere / 1000)


def predicted(pools: list[Pool], costs: Costs) -> list[dict[str, float]]:
    """Each pool's figures, as many at once as there are cores here."""
    with multiprocessing.get_context("spawn").Pool() as processes:
        return processes.starmap(_run, [(pool, costs) for pool in pools], chunksize=1)


def _run(pool: Pool, costs: Costs) -> dict[str, float]:
    return Simulation(pool, costs).run()


def table(rows: list[dict[str, float]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " ---: |" * len(COLUMNS)]
    lines += ["| " + " | ".join(show(row) for show in COLUMNS.values()) + " |" for row in rows]
    return "\n".join(lines)


COLUMNS: dict[str, Callable[[dict[str, float]], str]] = {
    "workers": lambda row: f"{row['workers']:,.0f}",
    "an evaluation": lambda row: f"{row['seconds']:,.0f} s",
    "evaluations a second": lambda row: f"{row['evaluations_a_second']:.2f}",
    "claim, median and p99": lambda row: f"{row['claim_ms_median']:.1f}, {row['claim_ms_p99']:.1f} ms",
    "to the next evaluation, p99": lambda row: f"{row['next_evaluation_ms_p99']:,.0f} ms",
    "outside evaluation": lambda row: f"{row['outside_percent']:.2f} %",
    "not training": lambda row: f"{row['not_training_percent']:.2f} %",
    "database's cores": lambda row: f"{row['cores_percent']:.0f} %",
    "search's turn": lambda row: f"{row['locked_percent']:.0f} %",
}


def check(files: list[Path], costs: Costs) -> str:
    """What ``claims.py`` measured beside what is predicted for the same."""
    columns = ["workers", "an evaluation"]
    for name in ("claim p99", "outside evaluation", "not training"):
        columns += [f"{name} measured", "predicted"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " ---: |" * len(columns)]
    measured = [json.loads(file.read_text()) for file in files]
    of_one_host = {"cores": os.cpu_count() or 1, "round_trip_ms": 0.0, "one_host": True, "epochs": 2}
    pools = [Pool(each["workers"], each["seconds_an_evaluation"], **of_one_host) for each in measured]
    for each, row in zip(measured, predicted(pools, costs), strict=True):
        lines.append(
            f"| {each['workers']} | {each['seconds_an_evaluation']:g} s "
            f"| {each['claim_milliseconds']['p99']:.1f} ms | {row['claim_ms_p99']:.1f} ms "
            f"| {each['outside_evaluation_percent']:.2f} % | {row['outside_percent']:.2f} % "
            f"| {each['not_sleeping_percent']:.2f} % | {row['not_training_percent']:.2f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--costs", type=Path, default=COSTS)
    parser.add_argument("--check", type=Path, nargs="+", metavar="FILE", help="what benchmarks/claims.py printed")
    parser.add_argument("--workers", default="64,256,1000,4000,10000")
    parser.add_argument("--seconds", default="60,600,3600")
    parser.add_argument("--searches", type=int, default=1)
    parser.add_argument("--cores", type=int, default=8, help="of the database")
    parser.add_argument("--lease-seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    costs = Costs.read(arguments.costs)
    if arguments.check:
        print(check(arguments.check, costs))
        return
    pool = Pool(1, 1.0, searches=arguments.searches, cores=arguments.cores, lease_seconds=arguments.lease_seconds)
    pools = [
        replace(pool, workers=int(workers), seconds=float(seconds))
        for seconds in arguments.seconds.split(",")
        for workers in arguments.workers.split(",")
    ]
    print(table(predicted(pools, costs)))


if __name__ == "__main__":
    main()
