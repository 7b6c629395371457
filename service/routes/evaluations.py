"""Evaluations: stages, curves and where the results came from."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from searcher.curves import curve_of
from searcher.results import get_evaluation, stages_of_evaluation
from searcher.searches import searches_of_evaluation
from service.dependencies import EvaluationId, reads
from service.problems import NotFound
from service.schemas import EvaluationView

router = APIRouter(tags=["evaluations"])


@router.get("/evaluations/{evaluation_id}")
@reads()
def get_one(evaluation_id: EvaluationId, session: Session) -> EvaluationView:
    """One evaluation with its stages, learning curves and provenance."""
    evaluation = get_evaluation(session, evaluation_id)
    if evaluation is None:
        raise NotFound(f"evaluation {evaluation_id}", "GET /searches/{id}/candidates lists a search's")
    stages = [(stage, curve_of(session, stage.id)) for stage in stages_of_evaluation(session, evaluation_id)]
    return EvaluationView.of(evaluation, searches_of_evaluation(session, evaluation_id), stages)
