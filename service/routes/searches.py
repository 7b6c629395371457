"""Searches: posted, listed, watched, cancelled, deleted."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from qcore import InvalidInput, stored_task
from searcher.allowances import admit_extension, admit_search
from searcher.leaderboard import leaderboard_of_search
from searcher.plan import plan
from searcher.progress import candidates_of, progress
from searcher.request import Limits, SearchRequest
from searcher.searches import cancel_search, create_search, delete_search, extend_search, list_searches
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
from service.leaderboard_query import RESPONSES, LeaderboardQueryOf, leaderboard_answer
from service.pagination import link_to
from service.problems import CONFLICT, Conflict
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
    admit_search(session, caller.key_id, request)
    search = create_search(session, resolved, caller.key_id)
    response.headers["Location"] = f"/searches/{search.id}"
    return SearchView.of(search, progress(session, search))


@router.get("/searches")
def get_searches(
    request: Request,
    session: Reading,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only searches older than this one.")] = None,
    status: Annotated[Literal["running", "finished", "cancelled"] | None, Query(description="Only such ones.")] = None,
    task: Annotated[str | None, Query(max_length=64, description="Only those over this task.")] = None,
) -> SearchList:
    """Searches, newest first."""
    found = list_searches(session, limit + 1, before, status=status, task=task)
    following = link_to(request, before=found[limit - 1].id) if len(found) > limit else None
    searches = [SearchView.of(search, progress(session, search)) for search in found[:limit]]
    return SearchList(searches=searches, next=following)


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
def post_extend(search_id: ChangeableSearchId, limits: Limits, session: Writing, caller: CallerOf) -> SearchView:
    """Gives a search the limits that are named; one that a limit had ended goes on. A cancelled one is refused."""
    admit_extension(session, caller.key_id, search_id, limits)
    search = found_search(extend_search(session, search_id, limits), search_id)
    return SearchView.of(search, progress(session, search))


@router.delete("/searches/{search_id}", status_code=204, responses=CONFLICT)
def delete_one(search_id: ChangeableSearchId, session: Writing) -> None:
    """Removes an ended search with its candidates and events; evaluations and their results stay, for others to share.

    One that is running is refused: cancel it first.
    """
    search = found_search(delete_search(session, search_id), search_id)
    if search.status == "running":
        raise Conflict(f"search {search_id} is running; POST /searches/{search_id}/cancel first, and then delete it")


@router.get("/searches/{search_id}/candidates")
def get_candidates(
    request: Request,
    search: ExistingSearch,
    session: Reading,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    after: Annotated[int, Query(ge=0, le=MOST_ID, description="Only candidates after the one of this id.")] = 0,
) -> CandidateList:
    """Every feasible architecture of a search, with costs and evaluations."""
    found = candidates_of(session, search, limit + 1, after)
    following = link_to(request, after=found[limit - 1][0].id) if len(found) > limit else None
    return CandidateList(candidates=[CandidateView.of(search, *each) for each in found[:limit]], next=following)


@router.get("/searches/{search_id}/leaderboard", response_model=LeaderboardView, responses=RESPONSES)
def get_search_leaderboard(
    request: Request,
    search: ExistingSearch,
    session: Reading,
    query: LeaderboardQueryOf,
    rung: Annotated[int | None, Query(ge=0, le=9, description="One of its rungs, in place of the full recipe.")] = None,
) -> Response:
    """A search's candidates, ranked by validation accuracy at its first bit widths.

    Entries are ranked among those that the filters leave.
    """
    recipes = recipes_of(search)
    if rung is not None and rung >= len(recipes) - 1:
        has = "has no rungs" if len(recipes) == 1 else f"has rungs 0 to {len(recipes) - 2}"
        raise InvalidInput("rung", rung, f"is not there: search {search.id} {has}", "leave it out for the full recipe")
    task, bit_widths = stored_task(search.task, search.task_version), search.bit_widths[: None if rung is None else 1]
    query.check_block(task)
    page = leaderboard_of_search(session, search, rung, query.filters, query.order)
    return leaderboard_answer(request, query, task, recipes[-1 if rung is None else rung], bit_widths, page)
