"""Metrics for Prometheus: of this server's requests, and of the pool as the database knows it."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import GaugeMetricFamily
from sqlalchemy.exc import SQLAlchemyError

from searcher.figures import PoolFigures, pool_figures, store_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric
    from sqlalchemy.orm import Session

    from searcher.database import Database

log = logging.getLogger(__name__)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series of its own for each, which nobody asks for

POOL_SECONDS, STORE_SECONDS = 5.0, 60.0
"""How old what is told may be: however often it is asked, the database is asked no oftener."""

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_Found = TypeVar("_Found")


class Metrics:
    """Of one app. Safe to use from any thread."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("quantrank", "Release of this server.", registry=self.registry).info({"version": version("quantrank")})
        self._requests = Counter(
            "quantrank_http_requests",
            "Requests that were answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "quantrank_http_request_seconds",
            "Time until the answer began.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._in_progress = Gauge(
            "quantrank_http_requests_in_progress",
            "Requests that are being answered, streams among them.",
            registry=self.registry,
        )
        self.registry.register(_Pool(database))

    @contextmanager
    def in_progress(self) -> Iterator[None]:
        """Counts a request as long as the block lasts."""
        with self._in_progress.track_inprogress():
            yield

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._latency.labels(known, route).observe(seconds)


class _Pool:
    """Asks the database when Prometheus asks the server, if what it knows is too old."""

    def __init__(self, database: Database) -> None:
        self._pool = _Kept(database, pool_figures, POOL_SECONDS)
        self._store = _Kept(database, store_figures, STORE_SECONDS)

    def collect(self) -> Iterator[Metric]:
        pool, store = self._pool.read(), self._store.read()
        yield _gauge("quantrank_database_up", "1 while the database answers.", float(pool is not None))
        if pool is not None:
            yield from _of_pool(pool)
        if pool is not None and store is not None:
            evaluations = {"queued": pool.queued, "running": pool.running + pool.leases_ended, **store.evaluations}
            yield _by("quantrank_evaluations", "Stored evaluations by status.", "status", evaluations)
        if store is not None:
            told = "Claims of stored evaluations that brought no end: the worker died or lost its lease."
            yield _gauge("quantrank_lost_claims", told, store.lost_claims)

    def describe(self) -> Iterator[Metric]:
        """Nothing: whoever registers this does not ask the database."""
        yield from ()


class _Kept(Generic[_Found]):
    """The last answer to a question to the database; None if it does not answer now. One asks, others wait."""

    def __init__(self, database: Database, ask: Callable[[Session], _Found], seconds: float) -> None:
        self._database, self._ask, self._seconds = database, ask, seconds
        self._lock = threading.Lock()
        self._asked_at = -seconds
        self._found: _Found | None = None

    def read(self) -> _Found | None:
        with self._lock:
            if time.monotonic() - self._asked_at >= self._seconds:
                self._asked_at = time.monotonic()
                try:
                    with self._database.read() as session:
                        self._found = self._ask(session)
                except SQLAlchemyError as error:
                    log.warning("metrics go without the pool, the database does not answer: %s", error)
                    self._found = None
            return self._found


def _of_pool(pool: PoolFigures) -> Iterator[Metric]:
    yield _gauge("quantrank_queue_depth", "Evaluations that wait for a worker.", pool.queued)
    yield _gauge("quantrank_leases_held", "Evaluations that a worker holds.", pool.running)
    told = "Evaluations whose worker lost its lease and that nobody has taken over yet."
    yield _gauge("quantrank_leases_ended", told, pool.leases_ended)
    yield _by("quantrank_workers", "Workers with a recent sign of life.", "state", pool.workers)
    yield _gauge("quantrank_ray_drivers", "Drivers of Ray clusters with a recent sign of life.", pool.drivers)
    yield _by("quantrank_searches", "Stored searches by status.", "status", pool.searches)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _by(name: str, told: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
