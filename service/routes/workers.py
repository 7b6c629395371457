"""Workers: where they run, what they have and do."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from searcher.workers import list_workers, problem_of_all
from service.dependencies import reads
from service.pagination import link_to
from service.schemas import WorkerList, WorkerView

router = APIRouter(tags=["workers"])


@router.get("/workers")
@reads()
def get_workers(
    request: Request,
    session: Session,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most on a page.")] = 1000,
    after: Annotated[
        str | None, Query(max_length=32, description="Only workers that follow the one of this id.")
    ] = None,
) -> WorkerList:
    """Workers that run, and those that vanished within a day; one that was stopped is not listed."""
    found = list_workers(session, limit + 1, after)
    following = link_to(request, after=found[limit - 1].worker.id) if len(found) > limit else None
    views = [WorkerView.of(each) for each in found[:limit]]
    return WorkerList(workers=views, problem=problem_of_all(session), next=following)
