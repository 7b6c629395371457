"""Running one claimed evaluation: its pending stages are trained, checkpointed every epoch, and stored."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

from qcore import FLOAT
from qcore.checkpoints import from_bytes
from qcore.data import load_data
from qcore.devices import prepare_device
from qcore.export import NetworkDescription, to_safetensors
from qcore.provenance import provenance
from qcore.starting_network import starting_network
from qcore.training import CurvePoint, Interrupted, StageResult, State, train_stage
from qcore.training_memory import peak_bytes
from searcher import results
from searcher.artifacts import NetworkUnusable, StoreFailed
from searcher.log_context import is_for
from searcher.outages import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from qcore import Stage
    from qcore.data import Data
    from searcher.database import Database
    from searcher.leases import Lease
    from searcher.results import StageToTrain
    from searcher.worker_settings import WorkerSettings

__all__ = ["Executor", "Interrupted"]

R = TypeVar("R")

log = logging.getLogger(__name__)

_PAUSE, _LOOK_SECONDS = threading.Event(), 0.1
_NEVER_TRAINED = StageResult("diverged", None, None, (), 0.0, {})


class Executor:
    """Runs evaluations on one device; keeps the last data set from one to the next."""

    def __init__(
        self,
        database: Database,
        settings: WorkerSettings,
        stopping: Callable[[], bool],
        note_problem: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """``stopping`` is asked before every step; ``note_problem`` hears why it cannot go on, and None when it can."""
        self._note_problem = note_problem
        self._device = prepare_device(settings.device, settings.threads)
        self._database, self._settings, self._stopping = database, settings, stopping
        self._data: tuple[object, Data] | None = None

    def run(self, lease: Lease, check_lease: Callable[[], None]) -> None:
        """Trains every stage that is pending and wanted, until none is.

        Raises:
            LeaseLost: when the lease is not held any more.
            Interrupted: when the worker stops; the checkpoint of the last whole epoch is there.
            StoreFailed: when the store does not take a network for long.
        """

        def start(session: Session) -> StageToTrain | None:
            is_for(searches=results.start_evaluation(session, lease))
            return results.next_stage(session, lease)

        stage = self._write(start, check_lease)
        while stage:
            if self._stopping():
                raise Interrupted(stage.plan.label)
            stage = self._run_stage(lease, stage, check_lease)

    def _run_stage(self, lease: Lease, stage: StageToTrain, check_lease: Callable[[], None]) -> StageToTrain | None:
        """Trains a stage and stores what came of it; the next one."""
        plan = stage.plan
        log.info("%s: training", plan.label)

        def record(point: CurvePoint) -> None:
            check_lease()
            self._write(
                lambda session: results.record_epoch(session, lease, stage.stage_id, **asdict(point)), check_lease
            )

        digest = None
        if plan.bit_widths.is_float:
            start_state = starting_network(plan, self._settings.data_root)
            result, digest = self._train(plan, start_state, record, check_lease)
        elif stage.of_float.status == "diverged":
            result = _NEVER_TRAINED
        else:
            result, digest = self._train(plan, self._float_state(lease, stage, check_lease), record, check_lease)
        made = provenance(self._device) | result.variant | {"peak_bytes": peak_bytes()}

        def accept(session: Session) -> StageToTrain | None:
            results.accept_stage(
                session,
                lease,
                stage.stage_id,
                status=result.status,
                validation_accuracy=result.validation_accuracy,
                test_accuracy=result.test_accuracy,
                train_seconds=result.train_seconds,
                network_digest=digest,
                divergence=None if result.divergence is None else asdict(result.divergence),
                provenance=made,
            )
            return results.next_stage(session, lease)

        following = self._write(accept, check_lease)
        self._settings.artifacts.checkpoint(plan.key).remove()
        return following

    def _write(self, write: Callable[[Session], R], check_lease: Callable[[], None]) -> R:
        """Writes something once the database answers: what was trained is worth waiting with."""

        def check() -> None:
            check_lease()
            if self._stopping():
                raise Interrupted

        return patiently(self._database, write, check)

    def _train(
        self,
        plan: Stage,
        start_state: State | None,
        on_epoch: Callable[[CurvePoint], None],
        check_lease: Callable[[], None],
    ) -> tuple[StageResult, str]:
        """Trains a stage from its checkpoint on, and stores its network, which a result implies; with its digest."""
        artifacts = self._settings.artifacts

        def check() -> None:
            check_lease()
            if self._stopping():
                raise Interrupted(plan.label)

        result = train_stage(
            plan,
            self._data_for(plan),
            start_state=start_state,
            checkpoint=artifacts.checkpoint(plan.key),
            on_epoch=on_epoch,
            check=check,
            device=self._device,
        )
        content = to_safetensors(NetworkDescription.of_stage(plan), result.state)
        return result, self._store(content, result.train_seconds, check)

    def _store(self, content: bytes, train_seconds: float, check: Callable[[], None]) -> str:
        """Stores a trained network and returns its digest; a store that does not take it is tried again and again."""
        last = time.monotonic() + max(self._settings.store_patience_seconds, train_seconds)
        pause, failed = self._settings.first_proof_pause_seconds, False
        while True:
            try:
                digest = self._settings.artifacts.write_network(content)
            except StoreFailed as error:
                if time.monotonic() >= last:
                    raise
                failed = True
                self._note_problem(str(error))
            else:
                if failed:
                    self._note_problem(None)
                return digest
            next_try = time.monotonic() + pause
            pause = min(2 * pause, self._settings.longest_proof_pause_seconds)
            while time.monotonic() < next_try:
                check()
                _PAUSE.wait(_LOOK_SECONDS)

    def _float_state(self, lease: Lease, stage: StageToTrain, check_lease: Callable[[], None]) -> State:
        """The float stage's network; trained again, without a second result, if it is gone or damaged."""
        artifacts, plan = self._settings.artifacts, replace(stage.plan, bit_widths=FLOAT)
        try:
            saved = from_bytes(artifacts.read_network(plan.key, stage.of_float.network_digest))
        except NetworkUnusable as error:
            log.warning("%s %s", plan.label, error)
            saved = None
        if saved is not None:
            return saved[0]
        log.warning("%s: training its network again", plan.label)
        start_state = starting_network(plan, self._settings.data_root)
        result, digest = self._train(plan, start_state, lambda _: None, check_lease)
        self._write(lambda session: results.replace_network(session, lease, stage.of_float.id, digest), check_lease)
        artifacts.checkpoint(plan.key).remove()
        return result.state

    def _data_for(self, plan: Stage) -> Data:
        share = plan.recipe.float_part.validation_share
        wanted = (plan.task.name, plan.task.version, share)
        if self._data is None or self._data[0] != wanted:
            self._data = (wanted, load_data(plan.task, share, self._settings.data_root, self._device))
        return self._data[1]
