"""What a worker stores of an evaluation it holds: epochs, stages, its end. Every function checks the lease."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, select, update

from qcore import Architecture, BitWidths, InvalidInput, Recipe, stored_task
from qcore import Stage as StagePlan
from searcher.counting import count
from searcher.database import afterwards, at_the_end, database_now, insert_into
from searcher.events import emit
from searcher.leases import LeaseLost, held, held_with_searches
from searcher.proposals import wants
from searcher.searches import settle_ended
from searcher.tables import CurvePoint, Evaluation, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from searcher.leases import Lease


class OtherRelease(InvalidInput):
    """A stored stage that this release would train otherwise, or cannot read."""


@dataclass(frozen=True)
class StageToTrain:
    """A pending stage of a held evaluation, as its rows were when it was asked for."""

    evaluation: Evaluation
    stage: Stage
    of_float: Stage
    """The evaluation's float stage: pending, done or diverged."""

    @property
    def stage_id(self) -> int:
        return self.stage.id

    @cached_property
    def plan(self) -> StagePlan:
        """The training run.

        Raises:
            OtherRelease: when this release would train something else under the stage's key.
        """
        return plan_of(self.evaluation, self.stage)


def start_evaluation(session: Session, lease: Lease) -> list[int]:
    """Tells the searches that want an evaluation that a worker has it; their ids."""
    evaluation, searches = held_with_searches(session, lease)
    emit(
        session,
        searches,
        "evaluation_started",
        evaluation=evaluation.id,
        architecture=evaluation.architecture,
        seed=evaluation.seed,
        attempt=evaluation.attempt,
    )
    return [search.id for search in searches]


def next_stage(session: Session, lease: Lease) -> StageToTrain | None:
    """The next stage that a running search wants, the float one first; without one the evaluation is done.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    evaluation, searches = held_with_searches(session, lease)
    stages = _stages(session, evaluation)
    pending = [stage for stage in stages if stage.status == "pending"]
    wished = [(search, [stage for stage in pending if wants(search, stage)]) for search in searches]
    if not any(own for _, own in wished):
        _end(session, evaluation, searches, "done", None)
        return None
    # One that has all it wanted does not wait for what others want besides.
    _settle_afterwards(session, [search for search, own in wished if not own])
    search, own = next((search, own) for search, own in wished if own)
    order = ["float", *search.bit_widths]  # as the search gave them: the bit widths that rank come first
    stage = min(own, key=lambda stage: order.index(stage.bit_widths))
    return StageToTrain(evaluation, stage, stages[0])


def record_epoch(
    session: Session,
    lease: Lease,
    stage_id: int,
    *,
    epoch: int,
    train_loss: float,
    validation_accuracy: float | None,
    learning_rate: float,
) -> None:
    """Stores one point of a learning curve; a resumed run may store the same epoch again.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    behind = select(Stage.id).where(Stage.id == stage_id, Stage.epochs_done < epoch).exists()
    held_one = session.execute(
        update(Evaluation)
        .where(Evaluation.id == lease.evaluation_id, Evaluation.lease_token == lease.token)
        .values(fruitless_attempts=case((behind, 0), else_=Evaluation.fruitless_attempts))
        .returning(Evaluation.id)
        .execution_options(synchronize_session=False)
    ).first()
    if held_one is None:
        raise LeaseLost(lease.evaluation_id)
    point = {
        "train_loss": train_loss if math.isfinite(train_loss) else None,
        "validation_accuracy": validation_accuracy,
        "learning_rate": learning_rate,
    }
    session.execute(
        insert_into(session, CurvePoint)
        .values(stage_id=stage_id, epoch=epoch, **point)
        .on_conflict_do_update(index_elements=["stage_id", "epoch"], set_=point)
    )
    session.execute(
        update(Stage).where(Stage.id == stage_id).values(epochs_done=epoch).execution_options(synchronize_session=False)
    )


def accept_stage(
    session: Session,
    lease: Lease,
    stage_id: int,
    *,
    status: str,
    validation_accuracy: float | None,
    test_accuracy: float | None,
    train_seconds: float,
    provenance: dict[str, Any],
    network_digest: str | None = None,
    divergence: dict[str, Any] | None = None,
) -> None:
    """Stores how a stage ended: ``done`` with accuracies in percent, or ``diverged``. Once; the first result stands.

    ``network_digest`` says which network in the store is its.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    evaluation, searches = held_with_searches(session, lease)
    stage = next(stage for stage in _stages(session, evaluation) if stage.id == stage_id)
    if stage.status != "pending":
        return
    stage.status = status
    stage.validation_accuracy, stage.test_accuracy = validation_accuracy, test_accuracy
    stage.train_seconds, stage.provenance, stage.divergence = train_seconds, provenance, divergence
    stage.network_digest = network_digest
    stage.epochs_done = stage.epochs
    evaluation.fruitless_attempts = 0
    stage.ended_at, stage.counted = database_now(), True
    at_the_end(session, lambda session: count(session, [stage]))  # which locks the leaderboard
    emit(
        session,
        [search for search in searches if wants(search, stage)],
        "stage_ended",
        evaluation=evaluation.id,
        architecture=evaluation.architecture,
        seed=evaluation.seed,
        bit_widths=stage.bit_widths,
        status=status,
        validation_accuracy=validation_accuracy,
        test_accuracy=test_accuracy,
        divergence=divergence,
    )


def replace_network(session: Session, lease: Lease, stage_id: int, network_digest: str) -> None:
    """Says which network an ended stage has now that its own was lost and trained again; the result stands.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    held(session, lease)
    session.get_one(Stage, stage_id).network_digest = network_digest


def fail_evaluation(session: Session, lease: Lease, error: str) -> None:
    """Ends an evaluation by an error it met; a later search that wants it has it tried again.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    evaluation, searches = held_with_searches(session, lease)
    _end(session, evaluation, searches, "failed", error)


def stages_of_evaluation(session: Session, evaluation_id: int) -> list[Stage]:
    """An evaluation's stages, the float one first."""
    query = select(Stage).where(Stage.evaluation_id == evaluation_id).order_by(Stage.bit_widths != "float", Stage.id)
    return list(session.scalars(query))


def _stages(session: Session, evaluation: Evaluation) -> list[Stage]:
    """Of a held evaluation: nobody else adds to them or changes them in this transaction, and so they are read once."""
    if evaluation not in session.info:
        session.info[evaluation] = stages_of_evaluation(session, evaluation.id)
    found: list[Stage] = session.info[evaluation]
    return found


def get_evaluation(session: Session, evaluation_id: int) -> Evaluation | None:
    return session.get(Evaluation, evaluation_id)


def evaluations_alike(session: Session, evaluation: Evaluation) -> list[Evaluation]:
    """All evaluations that differ from one in nothing but the seed, and that one, by seed."""
    query = select(Evaluation).where(
        Evaluation.task == evaluation.task,
        Evaluation.task_version == evaluation.task_version,
        Evaluation.numerics_version == evaluation.numerics_version,
        Evaluation.float_recipe_hash == evaluation.float_recipe_hash,
        Evaluation.architecture == evaluation.architecture,
    )
    return list(session.scalars(query.order_by(Evaluation.seed)))


def plan_of(evaluation: Evaluation, stage: Stage) -> StagePlan:
    """The training run that a stored stage stands for.

    Raises:
        OtherRelease: when this release would train something else under its key.
    """
    try:
        task = stored_task(evaluation.task, evaluation.task_version)
        plan = StagePlan(
            task,
            Architecture.parse(evaluation.architecture),
            Recipe.stored(stage.recipe),
            evaluation.seed,
            BitWidths.parse(stage.bit_widths),
        )
    except ValueError as error:  # a name or a setting that is not known here
        raise _other_release(evaluation, str(error)) from error
    if plan.key != stage.key:
        raise _other_release(evaluation, f"it has version {task.version} and may be another release")
    return plan


def _other_release(evaluation: Evaluation, reason: str) -> OtherRelease:
    return OtherRelease(
        "task",
        f"{evaluation.task} version {evaluation.task_version}",
        f"is not what this release trains ({reason})",
        "run the same release of quantrank on the server and on every worker",
    )


def _end(session: Session, evaluation: Evaluation, searches: Sequence[Search], status: str, error: str | None) -> None:
    evaluation.status, evaluation.error, evaluation.suspected_by = status, error, None
    evaluation.lease_token = evaluation.lease_ends = None
    evaluation.ended_at = database_now()
    emit(
        session,
        searches,
        f"evaluation_{status}",
        evaluation=evaluation.id,
        architecture=evaluation.architecture,
        seed=evaluation.seed,
        error=error,
    )
    _settle_afterwards(session, searches)


def _settle_afterwards(session: Session, searches: Sequence[Search]) -> None:
    """Settling locks searches, for which whoever holds an evaluation must not wait."""
    if ids := [search.id for search in searches]:
        afterwards(session, lambda database: settle_ended(database, ids))
