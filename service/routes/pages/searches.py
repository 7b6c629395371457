"""The first page: all searches and how far they are."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from qcore import list_tasks
from searcher.searches import list_searches
from searcher.workers import NO_WORKER, problem_of_all
from service.dependencies import MOST_ID, FinalProgressOf, SettingsOf, reads
from service.pagination import link_to
from service.routes.pages.rendering import render
from service.schemas import SearchView

LISTED_SEARCHES = 25

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/")
@reads()
def index(
    request: Request,
    session: Session,
    settings: SettingsOf,
    final: FinalProgressOf,
    task: Annotated[str, Query(max_length=64)] = "",
    status: Literal["", "running", "finished", "failed", "cancelled"] = "",
    before: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None,
    search: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None,
) -> Response:
    """Searches, newest first; of one task and status, if given, which forms send empty if they are not.

    With ``search``, which earlier releases' links have, that search's page.
    """
    if search is not None:
        return RedirectResponse(f"/ui/searches/{search}")
    found = list_searches(session, LISTED_SEARCHES + 1, before, status=status or None, task=task or None)
    shown = found[:LISTED_SEARCHES]
    told = final.of_all(session, shown)
    filters = {name: value for name, value in (("task", task), ("status", status)) if value}
    return render(
        request,
        "searches.html",
        searches=[SearchView.of(each, told[each.id]) for each in shown],
        tasks=[each.name for each in list_tasks(settings.data_root)],
        filters=filters,
        newest=link_to(request, before=None),
        older=link_to(request, before=shown[-1].id) if len(found) > len(shown) else None,
        before=before,
        is_any_worker=problem_of_all(session) != NO_WORKER,
    )
