"""The workers: where they run, what they have and do, and how to start one."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from searcher.database import read_clock
from searcher.workers import list_workers
from service.dependencies import reads
from service.routes.pages.rendering import render
from service.schemas import WorkerView
from service.schemas.values import to_datetime

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/ui/workers")
@reads()
def workers_page(request: Request, session: Session) -> Response:
    found = [WorkerView.of(each) for each in list_workers(session)]
    return render(request, "workers.html", workers=found, now=to_datetime(read_clock(session)))
