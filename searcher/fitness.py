"""Whether a worker is fit to claim: proved before it claims, and again, after growing pauses, while it is not."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from searcher import workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from searcher.database import Database
    from searcher.proof import Proof
    from searcher.worker_settings import WorkerSettings

log = logging.getLogger(__name__)

_LONG_PROOF_SECONDS = 60.0


def _prove(settings: WorkerSettings, *, anew: bool) -> Proof:
    from searcher.proof import prove  # which a process that plays evaluations takes the place of

    return prove(settings, anew=anew)


class Fitness:
    """Of one worker: ``problem`` is why it is unfit, None while it is fit; ``kernels``, whether it has the fused ones.

    A reason is told to the pool, and logged once, when it comes up; and so is its end.
    """

    def __init__(
        self, database: Database, settings: WorkerSettings, worker_id: str, prove: Callable[..., Proof] = _prove
    ) -> None:
        self._database, self._settings, self._worker_id, self._prove = database, settings, worker_id, prove
        self._is_proved = False
        self._pause = settings.first_proof_pause_seconds
        self._next_try = 0.0
        self._told: str | None = None
        """What the database says."""
        self.problem: str | None = None
        self.kernels = False

    def is_fit(self) -> bool:
        """Whether the worker may claim; proves it if that has not been done, or is due again.

        Raises:
            SQLAlchemyError: when the database does not answer.
        """
        if not self._is_proved or (self.problem is not None and time.monotonic() >= self._next_try):
            with self._beats():
                self.prove_again(anew=self._is_proved)
        self._tell()
        return self.problem is None

    def prove_again(self, *, anew: bool = True) -> bool:
        """Proves it now; whether it is fit."""
        proof = self._prove(self._settings, anew=anew)
        self._is_proved, self.kernels = True, proof.kernels
        self.note(proof.problem)
        return self.problem is None

    def note(self, problem: str | None) -> None:
        """Says why the worker is unfit, or that it is not any more."""
        if problem is None:
            if self.problem is not None:
                log.info("this worker is fit again: it was not for %s", self.problem)
            self._pause = self._settings.first_proof_pause_seconds
        else:
            if problem != self.problem:
                log.warning("this worker is unfit and claims nothing: %s", problem)
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, self._settings.longest_proof_pause_seconds)
        self.problem = problem
        with suppress(SQLAlchemyError):  # told with the next look
            self._tell()

    @contextmanager
    def _beats(self) -> Iterator[None]:
        """Shows signs of life beside a proof, and says of one that takes long that it does: something may hang."""
        ended, begun = threading.Event(), time.monotonic()

        def beat() -> None:
            while not ended.wait(self._settings.lease_seconds / 3):
                seconds = time.monotonic() - begun
                with suppress(SQLAlchemyError), self._database.write() as session:
                    workers.beat(session, self._worker_id, None)
                    if seconds > _LONG_PROOF_SECONDS:
                        told = (
                            f"its proof has not come to an end in {seconds:.0f} s: a compiler is slow, or a file hangs"
                        )
                        workers.note_fitness(session, self._worker_id, told)
                        self._told = told

        beating = threading.Thread(target=beat, name="proof", daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()

    def _tell(self) -> None:
        if self.problem != self._told:
            with self._database.write() as session:
                workers.note_fitness(session, self._worker_id, self.problem)
            self._told = self.problem
