"""One search: how far it is, its leaderboard, and charts of it."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from qcore import Task, stored_task
from searcher.events import latest_event
from searcher.leaderboard import leaderboard_of_search
from searcher.progress import candidates_of, progress
from searcher.situation import search_recipe
from searcher.tables import Search
from searcher.workers import NO_WORKER
from service.dependencies import CallerOf, SearchId, existing_search, reads
from service.lanes import in_loop
from service.reproduction import recipe_text
from service.routes import plotly
from service.routes.pages.heat_map import SHADES, heat_maps
from service.routes.pages.leaderboard_table import table_of
from service.routes.pages.rendering import render
from service.routes.pages.table_query import TableQuery
from service.schemas import LeaderboardView, SearchView

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/ui/searches/{search_id}")
@reads()
def search_page(
    request: Request,
    session: Session,
    search_id: SearchId,
    caller: CallerOf,
    query: Annotated[TableQuery, Depends(in_loop(TableQuery))],
) -> Response:
    search = existing_search(session, search_id)
    seen = latest_event(session, search.id)  # first: what happens from here on is told to the page
    task = stored_task(search.task, search.task_version)
    page = leaderboard_of_search(session, search)
    entries = page.entries
    leaderboard = LeaderboardView.of(task, search_recipe(search), search.bit_widths, page)
    accuracies = {entry.architecture: entry.ranking_accuracy for entry in entries if entry.ranking_accuracy is not None}
    maps = heat_maps(
        candidates_of(session, search),
        accuracies,
        frozenset(each.architecture for each in entries if each.diverged),
        frozenset(each.architecture for each in entries if each.missing),
    )
    table, found = table_of(leaderboard, query)
    return render(
        request,
        "search.html",
        search=SearchView.of(search, progress(session, search)),
        leaderboard=leaderboard,
        by_name={entry.architecture: entry for entry in leaderboard.entries},
        everywhere=f"/ui/leaderboard?{urlencode(_on_all_searches(search, task))}",
        query=query,
        table=table,
        found=found,
        filter_blocks=list(dict.fromkeys(each.block for each in maps)),
        maps=maps,
        shades=SHADES,
        worst=min(accuracies.values(), default=None),
        best=max(accuracies.values(), default=None),
        no_worker=NO_WORKER,
        may_change=caller.may_change(search.posted_by),
        plotly=plotly.PATH,
        seen=seen,
    )


def _on_all_searches(search: Search, task: Task) -> dict[str, str]:
    """What the leaderboard of all searches is asked for this one's task, recipe and bit widths."""
    recipe = recipe_text(task, search_recipe(search))
    return {"task": search.task, "recipe": recipe, "bit_widths": ",".join(search.bit_widths)}
