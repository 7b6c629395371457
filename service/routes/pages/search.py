"""One search: how far it is, and its leaderboard."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from qcore import stored_task
from searcher.leaderboard import leaderboard_of_search
from searcher.progress import progress
from searcher.situation import search_recipe
from searcher.workers import count_live
from service.dependencies import ExistingSearch, Reading
from service.routes.pages.rendering import render
from service.schemas import LeaderboardView, SearchView

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/ui/searches/{search_id}")
def search_page(request: Request, session: Reading, search: ExistingSearch) -> Response:
    task = stored_task(search.task, search.task_version)
    return render(
        request,
        "search.html",
        search=SearchView.of(search, progress(session, search)),
        leaderboard=LeaderboardView.of(
            task, search_recipe(search), search.bit_widths, leaderboard_of_search(session, search)
        ),
        workers=count_live(session)[0],
    )
