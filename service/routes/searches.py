"""Searches: posted, listed, watched, cancelled."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from qcore import InvalidInput, stored_task
from searcher.leaderboard import search_leaderboard
from searcher.plan import plan
from searcher.progress import candidates_of, progress
from searcher.request import Limits, SearchRequest
from searcher.searches import cancel_search, create_search, extend_search, list_searches
from searcher.situation import recipes_of
from service.dependencies import (
    MOST_ID,
    CallerOf,
    ChangeableSearchId,
    ExistingSearch,
    Reading,
    SettingsOf,
    Writing,
    found_search,
)
from service.schemas import CandidateList, CandidateView, LeaderboardView, SearchList, SearchView

router = APIRouter(tags=["searches"])


@router.post("/search", status_code=201)
def post_search(
    request: SearchRequest, session: Writing, settings: SettingsOf, caller: CallerOf, response: Response
) -> SearchView:
    """Starts a search: which architecture within the budgets is best at the first of the bit widths?"""
    resolved = plan(request, settings.data_root, settings.device)
    if settings.database_url is None:  # workers share this host, so what is missing here is missing for them
        resolved.task.check(settings.data_root)
    search = create_search(session, resolved, caller.key_id)
    response.headers["Location"] = f"/searches/{search.id}"
    return SearchView.of(search, progress(session, search))


@router.get("/searches")
def get_searches(
    session: Reading,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only searches older than this one.")] = None,
) -> SearchList:
    """Searches, newest first."""
    found = list_searches(session, limit, before)
    return SearchList(searches=[SearchView.of(search, progress(session, search)) for search in found])


@router.get("/searches/{search_id}")
def get_search(search: ExistingSearch, session: Reading) -> SearchView:
    """A search and how far it is."""
    return SearchView.of(search, progress(session, search))


@router.post("/searches/{search_id}/cancel")
def post_cancel(search_id: ChangeableSearchId, session: Writing) -> SearchView:
    """Ends a running search; work that another search wants goes on. An ended search stays as it is."""
    search = found_search(cancel_search(session, search_id), search_id)
    return SearchView.of(search, progress(session, search))


@router.post("/searches/{search_id}/extend")
def post_extend(search_id: ChangeableSearchId, limits: Limits, session: Writing) -> SearchView:
    """Gives a search the limits that are named; one that a limit had ended goes on. A cancelled one is refused."""
    search = found_search(extend_search(session, search_id, limits), search_id)
    return SearchView.of(search, progress(session, search))


@router.get("/searches/{search_id}/candidates")
def get_candidates(search: ExistingSearch, session: Reading) -> CandidateList:
    """Every feasible architecture of a search, with costs and evaluations."""
    found = candidates_of(session, search)
    return CandidateList(candidates=[CandidateView.of(search, *each) for each in found])


@router.get("/searches/{search_id}/leaderboard")
def get_search_leaderboard(
    search: ExistingSearch,
    session: Reading,
    rung: Annotated[int | None, Query(ge=0, le=9, description="One of its rungs, in place of the full recipe.")] = None,
) -> LeaderboardView:
    """A search's candidates, ranked by validation accuracy at its first bit widths."""
    recipes = recipes_of(search)
    if rung is not None and rung >= len(recipes) - 1:
        has = "has no rungs" if len(recipes) == 1 else f"has rungs 0 to {len(recipes) - 2}"
        raise InvalidInput("rung", rung, f"is not there: search {search.id} {has}", "leave it out for the full recipe")
    task, bit_widths = stored_task(search.task, search.task_version), search.bit_widths[: None if rung is None else 1]
    entries = search_leaderboard(session, search, rung)
    return LeaderboardView.of(task, recipes[-1 if rung is None else rung], bit_widths, entries)
