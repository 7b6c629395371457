"""The thread that keeps a lease while the main one trains, and notices when that hangs."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from searcher.leases import LeaseLost
from searcher.log_context import working_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from searcher.leases import Lease

log = logging.getLogger(__name__)

_ASKING_SECONDS = 1.0


class LeaseKeeper(threading.Thread):
    """Renews a lease at an interval, beside the training that it is for.

    Args:
        renew: raises LeaseLost when the lease is not held any more.
        ask: called every second at most, for a worker that hears of its end in another way than a signal.
        patience_seconds: after a lease is lost, how long the training may take to notice.
        give_up: called when it has not by then: it hangs.
    """

    def __init__(
        self,
        lease: Lease,
        interval_seconds: float,
        renew: Callable[[], None],
        *,
        ask: Callable[[], None],
        patience_seconds: float,
        give_up: Callable[[], None],
    ) -> None:
        super().__init__(name=f"lease-{lease.evaluation_id}", daemon=True)
        self._lease, self._interval_seconds, self._renew, self._ask = lease, interval_seconds, renew, ask
        self._patience_seconds, self._give_up = patience_seconds, give_up
        self._ended, self._lost = threading.Event(), threading.Event()

    def run(self) -> None:
        with working_on(evaluation=self._lease.evaluation_id):
            self._keep()
            if self._lost.is_set() and not self._ended.wait(self._patience_seconds):
                told = "evaluation %d: its lease is lost, and the training has not come back within %.0f s: it hangs"
                log.critical(told, self._lease.evaluation_id, self._patience_seconds)
                self._give_up()

    def _keep(self) -> None:
        next_renewal = time.monotonic() + self._interval_seconds
        while not self._ended.wait(min(_ASKING_SECONDS, self._interval_seconds)):
            try:
                self._ask()
                if time.monotonic() >= next_renewal:
                    next_renewal = time.monotonic() + self._interval_seconds
                    self._renew()
            except LeaseLost:
                self._lost.set()
                return
            except Exception as error:  # whatever it is, the lease is to be kept
                log.warning("evaluation %d: lease not renewed: %s", self._lease.evaluation_id, error)

    def check(self) -> None:
        """Raises LeaseLost once a renewal was refused."""
        if self._lost.is_set():
            raise LeaseLost(self._lease.evaluation_id)

    def end(self) -> None:
        self._ended.set()
        self.join()
