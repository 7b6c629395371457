"""Ended stages as leaderboards read them: which evaluations' they are, and the columns that are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from qcore.bit_widths import FLOAT
from searcher.tables import Evaluation, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select

ENDED = ("done", "diverged")


def of_recipe(
    task: str, task_version: str, numerics_version: int, float_recipe_hash: str
) -> tuple[ColumnElement[bool], ...]:
    """The SQL conditions that an evaluation is of a task and float recipe."""
    return (
        Evaluation.task == task,
        Evaluation.task_version == task_version,
        Evaluation.numerics_version == numerics_version,
        Evaluation.float_recipe_hash == float_recipe_hash,
    )


def ended_stages(
    evaluations: Sequence[ColumnElement[bool]], retraining_recipe_hash: str, bit_widths: Sequence[str]
) -> Select[*tuple[Any, ...]]:
    """Ended stages of some evaluations, the float ones and those at the bit widths, by architecture and seed."""
    # Columns, not whole rows: a stage's recipe and provenance take longer to read than all the rest.
    return (
        select(
            Evaluation.id,
            Evaluation.architecture,
            Evaluation.block,
            Evaluation.depth,
            Evaluation.width,
            Evaluation.parameters,
            Evaluation.seed,
            Stage.bit_widths,
            Stage.status,
            Stage.validation_accuracy,
            Stage.test_accuracy,
            Stage.train_seconds,
        )
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(
            *evaluations,
            Stage.status.in_(ENDED),
            or_(
                Stage.bit_widths == str(FLOAT),
                and_(Stage.bit_widths.in_(bit_widths), Stage.retraining_recipe_hash == retraining_recipe_hash),
            ),
        )
        .order_by(Evaluation.architecture, Evaluation.seed)
    )
