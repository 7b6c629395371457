"""Workers: where they run, what they have and do."""

from fastapi import APIRouter

from searcher.workers import list_workers
from service.dependencies import Reading
from service.schemas import WorkerList, WorkerView

router = APIRouter(tags=["workers"])


@router.get("/workers")
def get_workers(session: Reading) -> WorkerList:
    """Workers that run, and those that vanished within a day; one that was stopped is not listed."""
    return WorkerList(workers=[WorkerView.of(each) for each in list_workers(session)])
