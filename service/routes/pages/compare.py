"""Two or more evaluations side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from qcore import InvalidInput, Recipe
from qcore.bit_widths import FLOAT
from searcher.costs import costs_of
from searcher.results import get_evaluation, stages_of_evaluation
from service.dependencies import MOST_ID, reads
from service.problems import NotFound
from service.routes import plotly
from service.routes.pages.rendering import render

if TYPE_CHECKING:
    from qcore import Description
    from searcher.tables import Evaluation, Stage

MOST_COMPARED = 12

router = APIRouter(default_response_class=HTMLResponse)


@dataclass(frozen=True)
class Compared:
    """One evaluation."""

    evaluation: Evaluation
    stages: dict[str, Stage]
    """By bit widths, the float one first; of several recipes the first's."""
    costs: Description


@router.get("/ui/compare")
@reads()
def compare_page(
    request: Request,
    session: Session,
    evaluations: Annotated[list[Annotated[int, Query(ge=1, le=MOST_ID)]] | None, Query()] = None,
) -> Response:
    """The evaluations that the address names, in its order, each once."""
    numbers = list(dict.fromkeys(evaluations or []))
    if len(numbers) > MOST_COMPARED:
        raise InvalidInput("evaluations", len(numbers), "are too many", f"compare at most {MOST_COMPARED}")
    compared = [_compared(session, number) for number in numbers]
    bits = list(dict.fromkeys(name for each in compared for name in each.stages))
    return render(request, "compare.html", compared=compared, bits=bits, plotly=plotly.PATH)


def _compared(session: Session, number: int) -> Compared:
    evaluation = get_evaluation(session, number)
    if evaluation is None:
        raise NotFound(f"evaluation {number}", "the leaderboards link to those that do")
    stages: dict[str, Stage] = {}
    for stage in stages_of_evaluation(session, number):
        stages.setdefault(stage.bit_widths, stage)
    settings = Recipe.stored(next(iter(stages.values())).recipe).retraining.quantizers
    bits = tuple(name for name in stages if name != str(FLOAT))
    costs = costs_of(evaluation.architecture, evaluation.task, evaluation.task_version, bits, settings)
    return Compared(evaluation, stages, costs)
