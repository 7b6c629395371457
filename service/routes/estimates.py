"""What a search would cost, before it is posted."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from searcher.estimate import estimate
from searcher.plan import plan
from searcher.request import SearchRequest
from service.dependencies import SettingsOf, reads
from service.lanes import Lane
from service.problems import problem_responses
from service.schemas import EstimateView

router = APIRouter(tags=["searches"])


@router.post("/search/estimate", responses=problem_responses(413))
@reads(Lane.PLANNING)
def post_estimate(
    request: SearchRequest,
    session: Session,
    settings: SettingsOf,
    workers: Annotated[
        int | None,
        Query(ge=1, le=100_000, description="How many would work on it; those that run now if not given, at least 1."),
    ] = None,
    listed: Annotated[int, Query(ge=0, le=10_000, description="At most so many candidates are listed.")] = 1000,
) -> EstimateView:
    """The candidates of a search and the hours it would take; takes what `POST /search` takes, and stores nothing.

    Hours rest on the newest results of the same task, scaled by MACs x epochs x examples, or on a stated default where
    there are none. Stages that are there already cost nothing.
    """
    planned = plan(request, settings.data_root, settings.device)
    return EstimateView.of(planned, estimate(session, planned, settings.device, workers), listed)
