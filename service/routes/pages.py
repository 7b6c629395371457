"""The page: searches, and one search's leaderboard, kept up to date by events."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from sqlalchemy.orm import Session

from qcore import stored_task
from qcore.recipe import in_words
from searcher.leaderboard import search_leaderboard
from searcher.progress import progress
from searcher.searches import get_search, list_searches
from searcher.situation import search_recipe
from searcher.tables import Search
from service.dependencies import MOST_ID, ExistingSearch, Reading, found_search
from service.schemas import LeaderboardView, SearchView

PAGES = Path(__file__).parents[1] / "pages"
LISTED_SEARCHES = 50

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
templates = Jinja2Templates(
    PAGES, context_processors=[lambda request: {"caller": getattr(request.state, "caller", None)}]
)
templates.env.filters["in_words"] = in_words


@router.get("/")
def index(request: Request, session: Reading, search: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None) -> object:
    """All searches, and the leaderboard of the chosen or the newest one."""
    searches = list_searches(session, LISTED_SEARCHES)
    chosen = searches[0] if searches else None
    if search is not None:
        chosen = found_search(get_search(session, search), search)
    context = {
        "searches": [SearchView.of(each, progress(session, each)) for each in searches],
        **(_board(session, chosen) if chosen else {"search": None}),
    }
    return templates.TemplateResponse(request, "index.html", context)


@router.get("/searches/{search_id}/board")
def board(request: Request, session: Reading, search: ExistingSearch) -> object:
    """The leaderboard's part of the page, for the script to put in place."""
    return templates.TemplateResponse(request, "board.html", _board(session, search))


def _board(session: Session, search: Search) -> dict[str, object]:
    entries = search_leaderboard(session, search)
    task = stored_task(search.task, search.task_version)
    return {
        "search": SearchView.of(search, progress(session, search)),
        "leaderboard": LeaderboardView.of(task, search_recipe(search), search.bit_widths, entries),
    }
