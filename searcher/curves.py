"""Learning curves: what every epoch of a stage gave."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from qcore.bit_widths import FLOAT
from searcher.tables import CurvePoint, Evaluation, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class LearningCurve:
    """An evaluation's, of its float stage and of the retraining that ranks."""

    evaluation: int
    architecture: str
    seed: int
    status: str
    of_float: Sequence[CurvePoint]
    retraining: Sequence[CurvePoint]
    """Empty before it begins, and where it is not to be."""


def curve_of(session: Session, stage_id: int) -> list[CurvePoint]:
    return _curves(session, [stage_id]).get(stage_id, [])


def learning_curves(session: Session, search: Search, evaluations: Sequence[int]) -> list[LearningCurve]:
    """Of some evaluations of a search by its full recipe, in their order."""
    ranking = search.bit_widths[0]
    retrained = and_(Stage.bit_widths == ranking, Stage.retraining_recipe_hash == search.retraining_recipe_hash)
    query = (
        select(Evaluation.id, Evaluation.architecture, Evaluation.seed, Evaluation.status, Stage.bit_widths, Stage.id)
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(Evaluation.id.in_(evaluations), or_(Stage.bit_widths == str(FLOAT), retrained))
    )
    of_evaluations: dict[int, tuple[str, int, str]] = {}
    stages: dict[tuple[int, str], int] = {}
    for number, architecture, seed, status, bit_widths, stage in session.execute(query):
        of_evaluations[number] = (architecture, seed, status)
        stages[number, bit_widths] = stage
    curves = _curves(session, stages.values())

    def curve(evaluation: int, bit_widths: str) -> Sequence[CurvePoint]:
        return curves.get(stages.get((evaluation, bit_widths), 0), [])

    return [
        LearningCurve(each, *of_evaluations[each], curve(each, str(FLOAT)), curve(each, ranking))
        for each in evaluations
    ]


def _curves(session: Session, stages: Collection[int]) -> dict[int, list[CurvePoint]]:
    query = select(CurvePoint).where(CurvePoint.stage_id.in_(stages)).order_by(CurvePoint.stage_id, CurvePoint.epoch)
    return {stage: list(points) for stage, points in groupby(session.scalars(query), lambda point: point.stage_id)}
