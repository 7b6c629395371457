"""A worker: claims evaluations one after another and runs them, until it is told to stop.

Where nothing is claimable, or a search that comes first has nothing queued, it asks the searches what to evaluate next.
Torch is imported with the
first evaluation.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from qcore import DataMissing, InvalidInput, stored_task
from searcher import leases, results, workers
from searcher.leases import Lease, LeaseLost
from searcher.log_context import working_on
from searcher.next_proposal import propose_next
from searcher.results import OtherRelease
from searcher.searches import end_at_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from searcher.database import Database
    from searcher.execution import Executor
    from searcher.serving_order import Asked
    from searcher.worker_settings import WorkerSettings

log = logging.getLogger(__name__)

_LARGE_POOL = 8
"""Workers from which on evaluations are proposed ahead, one for every four: asking takes the longer the more is known,
and in a pool of dozens somebody is always waiting. A small pool asks late, when its sampler knows most.
"""
_PROPOSED_AT_ONCE = 16
"""At most: the first of them need not wait for the last."""
_LOOKS_A_SECOND = 128
"""Of a whole pool that finds nothing to do, at most."""


class Worker:
    """Runs evaluations in the calling thread; ``stop`` may be called from anywhere.

    ``told_to_stop`` is asked after every epoch, for a worker that hears of its end in another way.
    """

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        *,
        worker_id: str | None = None,
        told_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.id = worker_id or secrets.token_hex(16)
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        self._told_to_stop = told_to_stop
        self._executor: Executor | None = None
        self._awaited: set[tuple[str, str]] = set()
        """Names and versions of tasks whose data may yet come to be here."""
        self._asked: Asked = {}
        """Searches that had nothing to propose: they keep nobody from claiming what others have queued."""
        self._pool = 1
        """How many workers there are, as of the last round."""
        self._next_round = 0.0
        self._asking = threading.Thread()

    def stop(self) -> None:
        """Asks the worker to end: it finishes the epoch it is in and hands its evaluation back."""
        self._stopping.set()

    def run(self) -> None:
        """Works until stopped."""
        self._register()
        next_beat = next_look = 0.0
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= next_look:
                    self._look_for_missing_data()
                    next_look = time.monotonic() + self._settings.data_check_seconds
                busy = self.run_one()
                if not busy and time.monotonic() >= next_beat:
                    self._beat(None)
                    next_beat = time.monotonic() + self._settings.lease_seconds / 3
            except SQLAlchemyError as error:
                log.warning("the database does not answer: %s", error)
                busy = False
            if not busy:
                self._stopping.wait(self._pause())
        if self._asking.is_alive():
            self._asking.join()
        try:
            with self._database.write() as session:
                workers.end(session, self.id)
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", error)

    def run_only(self, evaluation_id: int) -> bool:
        """Runs that evaluation and no other; False if it is not claimable."""
        self._register()
        with self._database.write() as session:
            lease = leases.claim_evaluation(session, evaluation_id, self.id, self._settings.lease_seconds)
        if lease is not None:
            self._run_claimed(lease)
        with self._database.write() as session:
            workers.end(session, self.id)
        return lease is not None

    def run_one(self) -> bool:
        """Runs one evaluation, or proposes one to run next; False if there is nothing to do."""
        self._make_round()
        lease = self._claim()
        if lease is None:
            known = self._asked.copy()
            with self._database.read() as session:
                _, idle = workers.count_live(session)
            if self._propose(max(1, idle) + self._ahead(), self._asked):
                return True
            if self._asked == known or (lease := self._claim()) is None:
                return False
        self._ask_ahead()
        self._run_claimed(lease)
        return True

    def _claim(self) -> Lease | None:
        with self._database.write() as session:
            lease = leases.claim(session, self.id, self._settings.lease_seconds, self._asked)
            if lease is not None:
                workers.beat(session, self.id, lease.evaluation_id)
        return lease

    def _propose(self, count: int, asked: Asked | None = None) -> bool:
        return propose_next(self._database, count=min(count, _PROPOSED_AT_ONCE), worker_id=self.id, asked=asked)

    def _make_round(self) -> None:
        """Does what some worker has to do from time to time, each in its turn: the more there are, the less often."""
        if time.monotonic() < self._next_round:
            return
        end_at_limits(self._database)
        with self._database.write() as session:
            leases.bury_lost(session)
            self._pool, _ = workers.count_live(session)
        self._next_round = time.monotonic() + min(
            self._settings.poll_seconds * self._pool, self._settings.lease_seconds / 3
        )

    def _ahead(self) -> int:
        """How many evaluations are to wait for a worker, rather than a worker for them."""
        return self._pool // 4 if self._pool >= _LARGE_POOL else 0

    def _ask_ahead(self) -> None:
        """Sees to what is to wait for workers, beside the training: a sampler may take its time."""
        if self._ahead() and not self._asking.is_alive():
            self._asking = threading.Thread(target=self._propose_ahead, name="asking", daemon=True)
            self._asking.start()

    def _propose_ahead(self) -> None:
        wanted = self._ahead()
        try:
            with self._database.read() as session:
                missing = wanted - leases.count_claimable(session, "optuna", wanted)
            if 2 * missing >= wanted:
                self._propose(missing)
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", error)

    def _pause(self) -> float:
        """Seconds to the next look for work; drawn, so that those who began together do not go on together."""
        return random.uniform(0.5, 1.5) * max(self._settings.poll_seconds, self._pool / _LOOKS_A_SECOND)  # noqa: S311

    def _run_claimed(self, lease: Lease) -> None:
        with working_on(evaluation=lease.evaluation_id):
            try:
                with self._kept(lease) as keeper:
                    self._run_evaluation(lease, keeper)
            except LeaseLost:
                log.warning("evaluation %d: lease lost, dropped", lease.evaluation_id)

    def _run_evaluation(self, lease: Lease, keeper: _LeaseKeeper) -> None:
        from searcher.execution import Executor, Interrupted

        self._executor = self._executor or Executor(
            self._database, self._settings, lambda: self._stopping.is_set() or self._told_to_stop()
        )
        try:
            self._executor.run(lease, keeper.check)
        except Interrupted:
            with self._database.write() as session:
                leases.release(session, lease)
            log.info("evaluation %d: handed back", lease.evaluation_id)
        except (LeaseLost, SQLAlchemyError):
            raise  # a database that is away is no fault of the evaluation: the lease ends and another attempt follows
        except (DataMissing, OtherRelease) as error:
            self._leave_to_others(lease, error)
        except Exception as error:
            log.exception("evaluation %d failed", lease.evaluation_id)
            told = str(error) if isinstance(error, InvalidInput) else "".join(traceback.format_exception_only(error))
            with self._database.write() as session:
                results.fail_evaluation(session, lease, told.strip())

    def _register(self) -> None:
        with self._database.write() as session:
            workers.register(session, self.id, self._settings)

    def _leave_to_others(self, lease: Lease, error: DataMissing | OtherRelease) -> None:
        with self._database.write() as session:
            evaluation = leases.held(session, lease)
            leases.release(session, lease)
            workers.note_missing(session, self.id, evaluation.task, evaluation.task_version, str(error))
        if not self._has_data(evaluation.task, evaluation.task_version):  # else looking again would find nothing new
            self._awaited.add((evaluation.task, evaluation.task_version))
        log.warning("evaluation %d and all of its task are left to other workers: %s", evaluation.id, error)

    def _look_for_missing_data(self) -> None:
        """Takes evaluations again of tasks whose data have come to be here."""
        for task, version in [each for each in self._awaited if self._has_data(*each)]:
            with self._database.write() as session:
                workers.forget_missing(session, self.id, task, version)
            self._awaited.remove((task, version))

    def _has_data(self, task: str, version: str) -> bool:
        """Whether that version of a task is here, as far as the names of its files say."""
        try:
            known = stored_task(task, version)
            known.check(self._settings.data_root)
        except InvalidInput:
            return False
        return known.version == version

    def _beat(self, evaluation_id: int | None) -> None:
        with self._database.write() as session:
            workers.beat(session, self.id, evaluation_id)

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[_LeaseKeeper]:
        def renew() -> None:
            with self._database.write() as session:
                leases.renew(session, lease, self._settings.lease_seconds)
            self._beat(lease.evaluation_id)
            end_at_limits(self._database)

        keeper = _LeaseKeeper(lease, self._settings.lease_seconds / 3, renew)
        keeper.start()
        try:
            yield keeper
        finally:
            keeper.end()


class _LeaseKeeper(threading.Thread):
    """Renews a lease at an interval, beside the training that it is for."""

    def __init__(self, lease: Lease, interval_seconds: float, renew: Callable[[], None]) -> None:
        super().__init__(name=f"lease-{lease.evaluation_id}", daemon=True)
        self._lease, self._interval_seconds, self._renew = lease, interval_seconds, renew
        self._ended, self._lost = threading.Event(), threading.Event()

    def run(self) -> None:
        with working_on(evaluation=self._lease.evaluation_id):
            self._keep()

    def _keep(self) -> None:
        while not self._ended.wait(self._interval_seconds):
            try:
                self._renew()
            except LeaseLost:
                self._lost.set()
                return
            except SQLAlchemyError as error:
                log.warning("evaluation %d: lease not renewed: %s", self._lease.evaluation_id, error)

    def check(self) -> None:
        """Raises LeaseLost once a renewal was refused."""
        if self._lost.is_set():
            raise LeaseLost(self._lease.evaluation_id)

    def end(self) -> None:
        self._ended.set()
        self.join()
