"""A worker: claims evaluations one after another and runs them, until it is told to stop.

Before that it proves that it can work, and again after every error that is not an evaluation's own. Where nothing is
claimable, or a search that comes first has nothing queued, it asks the searches what to evaluate next.
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

from qcore import DataMissing, InvalidInput
from qcore.device_errors import is_device_failure
from qcore.errors import NotHere
from searcher import leases, results, workers
from searcher.artifacts import StoreFailed
from searcher.awaited_data import AwaitedData
from searcher.fitness import Fitness
from searcher.lease_keeper import LeaseKeeper
from searcher.leases import Lease, LeaseLost
from searcher.log_context import working_on
from searcher.next_proposal import propose_next
from searcher.results import OtherRelease
from searcher.rounds import make_round
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
_UNFIT_LOOK_SECONDS = 1.0
_HAND_BACK_SECONDS, _HAND_BACK_PAUSE_SECONDS = 6.0, 0.25
"""For so long a worker that ends waits for a database that is away: within 8 it has ended."""
_LOOKS_A_SECOND = 128
"""Of a whole pool that finds nothing to do, at most."""


class DeviceFailed(Exception):  # noqa: N818  a state of affairs, not a fault
    """This process can use its device no more; another may."""


class Worker:
    """Runs evaluations in the calling thread; ``stop`` and ``end`` may be called from anywhere.

    Args:
        told_to_stop: asked every second beside an evaluation, by a worker that hears of its end in another way.
        hangs: called from another thread when a training does not notice that its lease is lost.
    """

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        *,
        worker_id: str | None = None,
        told_to_stop: Callable[[], bool] = lambda: False,
        hangs: Callable[[], None] = lambda: None,
    ) -> None:
        self.id = worker_id or secrets.token_hex(16)
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        self._told_to_stop, self._hangs = told_to_stop, hangs
        self._fitness = Fitness(database, settings, self.id)
        self._executor: Executor | None = None
        self._awaited = AwaitedData(database, self.id, settings.data_root)
        self._asked: Asked = {}
        """Searches that had nothing to propose: they keep nobody from claiming what others have queued."""
        self._pool = 1
        """How many workers there are, as of the last round."""
        self._next_round = 0.0
        self._asking = threading.Thread()
        self.may_hold = False
        """Whether it holds an evaluation, or may hold one: whether its claim was committed is not known."""

    def stop(self) -> None:
        """Asks the worker to end: it finishes the step it is in and hands its evaluation back."""
        self._stopping.set()

    def end(self) -> bool:
        """Hands back what it holds and says that it has ended; False if the database stays away for some seconds.

        Whoever cannot wait for its thread may call it: that writes nothing more then.
        """
        last = time.monotonic() + _HAND_BACK_SECONDS
        while True:
            try:
                with self._database.write() as session:
                    leases.release_all(session, self.id)
                    workers.end(session, self.id)
            except SQLAlchemyError as error:
                self._database.outage.begin(error)
                if time.monotonic() >= last:
                    return False
                time.sleep(_HAND_BACK_PAUSE_SECONDS)
            else:
                return True

    def run(self) -> None:
        """Works until stopped.

        Raises:
            DeviceFailed: when this process can do nothing more; what it had is handed back.
        """
        self._register()
        next_beat = next_look = 0.0
        while not self._stopping.is_set():
            try:
                if time.monotonic() >= next_look:
                    self._awaited.look()
                    next_look = time.monotonic() + self._settings.data_check_seconds
                busy = self.run_one()
                if not busy and time.monotonic() >= next_beat:
                    self._beat(None)
                    next_beat = time.monotonic() + self._settings.lease_seconds / 3
            except SQLAlchemyError as error:
                self._database.outage.begin(error)
                busy = False
            if not busy:
                self._stopping.wait(self._pause())
        if self._asking.is_alive():
            self._asking.join()
        self.end()

    def run_only(self, evaluation_id: int, tell_unfit: Callable[[str], None] = lambda _: None) -> bool:
        """Runs that evaluation and no other; False if it is not claimable.

        While this worker is unfit, which it tells with the reason, it waits, and somebody else may take the evaluation.

        Raises:
            DeviceFailed: as ``run`` does.
        """
        self._register()
        if not self._wait_until_fit(evaluation_id, tell_unfit):
            self.end()
            return False
        with self._database.write() as session:
            lease = leases.claim_evaluation(session, evaluation_id, self.id, self._settings.lease_seconds)
            self.may_hold = lease is not None
        if lease is not None:
            self._run_claimed(lease)
        self.end()
        return lease is not None

    def _wait_until_fit(self, evaluation_id: int, tell_unfit: Callable[[str], None]) -> bool:
        """Whether it is fit in time: before it is stopped, and before somebody else takes an evaluation."""
        told = None
        while not self._fitness.is_fit():
            if self._fitness.problem is not None and self._fitness.problem != told:
                told = self._fitness.problem
                tell_unfit(told)
            with self._database.read() as session:
                if not leases.is_claimable(session, evaluation_id) or self._stopping.is_set() or self._told_to_stop():
                    return False
            self._beat(None)
            self._stopping.wait(min(self._settings.lease_seconds / 3, _UNFIT_LOOK_SECONDS))
        return True

    def run_one(self) -> bool:
        """Runs one evaluation, or proposes one to run next; False if there is nothing to do."""
        self._make_round()
        if not self._fitness.is_fit() or self._stopping.is_set():  # the proof takes its time
            return False
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
            self.may_hold = lease is not None
            if lease is not None:
                workers.beat(session, self.id, lease.evaluation_id)
        return lease

    def _propose(self, count: int, asked: Asked | None = None) -> bool:
        return propose_next(self._database, count=min(count, _PROPOSED_AT_ONCE), worker_id=self.id, asked=asked)

    def _make_round(self) -> None:
        """Does what some worker has to do from time to time, each in its turn: the more there are, the less often."""
        if time.monotonic() < self._next_round:
            return
        make_round(self._database)
        with self._database.read() as session:
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
            self._database.outage.begin(error)

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
        self.may_hold = False

    def _run_evaluation(self, lease: Lease, keeper: LeaseKeeper) -> None:
        from searcher.execution import Executor, Interrupted

        try:
            self._executor = self._executor or Executor(
                self._database, self._settings, self._stopping.is_set, self._fitness.note
            )
            self._executor.run(lease, keeper.check)
        except Interrupted:
            self._release(lease)
            log.info("evaluation %d: handed back", lease.evaluation_id)
        except (LeaseLost, SQLAlchemyError):
            raise  # a database that is away is no fault of the evaluation: the lease ends and another attempt follows
        except (DataMissing, OtherRelease, NotHere) as error:
            self._awaited.leave_to_others(lease, error)
        except InvalidInput as error:
            if isinstance(error, StoreFailed):
                self._find_fault(lease, error)
            else:
                self._fail(lease, error)
        except Exception as error:
            self._find_fault(lease, error)
        else:
            if self._fitness.problem is not None:  # which the evaluation has outlived
                self._fitness.note(None)

    def _find_fault(self, lease: Lease, error: Exception) -> None:
        """Finds whose fault an error was, and hands the evaluation back or lets it fail.

        It is this worker's, if that cannot prove itself; else, if another worker meets one too, the evaluation's.
        """
        if failed := is_device_failure(error):
            log.error("evaluation %d: this process can use its device no more: %s", lease.evaluation_id, error)
        elif not self._fitness.prove_again():
            log.warning("evaluation %d: handed back: this worker is unfit (%s)", lease.evaluation_id, error)
            return self._release(lease)
        with self._database.write() as session:
            is_suspect = leases.suspect(session, lease, self.id)
        if is_suspect:
            told = "evaluation %d met an error, and is to be tried once more, by another worker if there is one"
            log.warning(told, lease.evaluation_id, exc_info=error)
        else:
            self._fail(lease, error)
        if failed:
            self.end()
            raise DeviceFailed(str(error)) from error
        return None

    def _fail(self, lease: Lease, error: Exception) -> None:
        log.error("evaluation %d failed", lease.evaluation_id, exc_info=error)
        told = str(error) if isinstance(error, InvalidInput) else "".join(traceback.format_exception_only(error))
        with self._database.write() as session:
            results.fail_evaluation(session, lease, told.strip())

    def _release(self, lease: Lease) -> None:
        with self._database.write() as session:
            leases.release(session, lease)

    def _register(self) -> None:
        with self._database.write() as session:
            workers.register(session, self.id, self._settings)

    def _beat(self, evaluation_id: int | None) -> None:
        with self._database.write() as session:
            workers.beat(session, self.id, evaluation_id)

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[LeaseKeeper]:
        def renew() -> None:
            try:
                with self._database.write() as session:
                    leases.renew(session, lease, self._settings.lease_seconds)
                self._beat(lease.evaluation_id)
                end_at_limits(self._database)
            except SQLAlchemyError as error:
                self._database.outage.begin(error)

        def ask() -> None:
            if not self._stopping.is_set() and self._told_to_stop():
                self.stop()

        keeper = LeaseKeeper(
            lease,
            self._settings.lease_seconds / 3,
            renew,
            ask=ask,
            patience_seconds=self._settings.hang_seconds,
            give_up=self._hangs,
        )
        keeper.start()
        try:
            yield keeper
        finally:
            keeper.end()
