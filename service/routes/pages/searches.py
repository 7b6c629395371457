"""The first page: all searches and how far they are."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from searcher.progress import progress
from searcher.searches import list_searches
from searcher.workers import count_live
from service.dependencies import MOST_ID, Reading
from service.routes.pages.rendering import render
from service.schemas import SearchView

LISTED_SEARCHES = 25

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/")
def index(
    request: Request,
    session: Reading,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None,
    search: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None,
) -> Response:
    """Searches, newest first. With ``search``, which earlier releases' links have, that search's page."""
    if search is not None:
        return RedirectResponse(f"/ui/searches/{search}")
    found = list_searches(session, LISTED_SEARCHES + 1, before)
    shown = found[:LISTED_SEARCHES]
    return render(
        request,
        "searches.html",
        searches=[SearchView.of(each, progress(session, each)) for each in shown],
        older=shown[-1].id if len(found) > len(shown) else None,
        before=before,
        workers=count_live(session)[0],
    )
