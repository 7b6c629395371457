"""Evaluations that are played: everything is stored as by real ones, but nothing is trained and torch stays out.

A process that has called ``play`` runs them. How an evaluation goes is said by a file beside the data sets, named
after its architecture and seed (``tell``), so that it reaches workers and trials in whatever process they are.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from building import accept_stage, made_up_accuracy, record_epoch

from searcher import leases, results
from searcher.database import Database
from searcher.proof import Proof
from searcher.ray_tune import trial
from searcher.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from searcher.leases import Lease
    from searcher.tables import Evaluation
    from searcher.worker_settings import WorkerSettings

WAITS, FAILS, DIVERGES, DIES_ONCE, DIES = "waits", "fails", "diverges", "dies once", "dies"
FAILURE = "the lamp went out"
_PAUSE_SECONDS = 0.02


def tell(folder: Path, architecture: str, seed: int, how: str | None) -> None:
    """How the evaluation goes from now on; None: as usual."""
    folder.mkdir(parents=True, exist_ok=True)
    if how is None:
        _told(folder, architecture, seed).unlink()
    else:
        _told(folder, architecture, seed).write_text(how)


def _told(folder: Path, architecture: str, seed: int) -> Path:
    return folder / f"{architecture}-seed{seed}"


class Interrupted(Exception):  # noqa: N818  takes the place of the trainer's
    """The worker is told to stop."""


class Executor:
    """Takes the place of ``searcher.execution.Executor``."""

    def __init__(
        self, database: Database, settings: WorkerSettings, stopping: Callable[[], bool], _note_problem: Any
    ) -> None:
        self._database, self._folder, self._stopping = database, settings.data_root, stopping

    def run(self, lease: Lease, check_lease: Callable[[], None]) -> None:
        with self._database.write() as session:
            results.start_evaluation(session, lease)
            stage = results.next_stage(session, lease)
        while stage:
            evaluation = stage.evaluation
            while (how := self._how(evaluation)) == WAITS:
                self._rest(lease, check_lease)
            if self._stopping():
                raise Interrupted
            if how == DIES or (how == DIES_ONCE and evaluation.attempt == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            if how == FAILS:
                raise ValueError(FAILURE)
            stage = self._play(lease, stage, diverges=how == DIVERGES)

    def _how(self, evaluation: Evaluation) -> str | None:
        try:
            return _told(self._folder, evaluation.architecture, evaluation.seed).read_text()
        except FileNotFoundError:
            return None

    def _rest(self, lease: Lease, check_lease: Callable[[], None]) -> None:
        """A moment of training: a stop and a lost lease are noticed, as they are with every epoch."""
        threading.Event().wait(_PAUSE_SECONDS)
        check_lease()
        with self._database.read() as session:
            leases.held(session, lease)
        if self._stopping():
            raise Interrupted

    def _play(self, lease: Lease, stage: results.StageToTrain, *, diverges: bool) -> results.StageToTrain | None:
        for epoch in range(1, stage.plan.epochs + 1):
            with self._database.write() as session:
                record_epoch(session, lease, stage.stage_id, epoch=epoch)
        accuracy = None if diverges else made_up_accuracy(stage.evaluation, str(stage.plan.bit_widths))
        tested = None if accuracy is None else accuracy - 1.0
        values = {"validation_accuracy": accuracy, "test_accuracy": tested}
        with self._database.write() as session:
            accept_stage(session, lease, stage.stage_id, status="diverged" if diverges else "done", **values)
            return results.next_stage(session, lease)


def prove(_settings: WorkerSettings, *, anew: bool) -> Proof:
    """Takes the place of ``searcher.proof.prove``: nothing is needed."""
    return Proof(())


def play() -> None:
    """Has this process play the evaluations it runs."""
    sys.modules["searcher.execution"] = sys.modules["searcher.proof"] = sys.modules[__name__]


def run_trial(trials: trial.Trials, evaluation_id: int, tell_unfit: Callable[[str], None]) -> bool:
    """What a trial of Ray Tune does, played."""
    play()
    return trial.run_trial(trials, evaluation_id, tell_unfit)


def run_worker(url: str, settings: Any) -> None:
    """A worker's process, played, until SIGTERM."""
    play()
    database = Database(url)
    worker = Worker(database, settings)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    worker.run()
    database.dispose()
