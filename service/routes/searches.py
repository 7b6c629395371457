"""Searches: posted, listed, watched, cancelled, deleted."""

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.orm import Session

from qcore import InvalidInput, stored_task
from searcher.allowances import TooManyRunning, admit_extension, admit_search
from searcher.database import Database
from searcher.idempotency import Name, NameTaken, OtherRequest, posted_before
from searcher.leaderboard import leaderboard_of_search
from searcher.plan import plan
from searcher.progress import candidates_of, progress
from searcher.request import Limits, SearchRequest
from searcher.searches import cancel_search, create_search, delete_search, extend_search, list_searches
from searcher.situation import recipes_of
from searcher.tables import Search
from service.dependencies import (
    MOST_ID,
    CallerOf,
    ChangeableSearchId,
    ExistingSearch,
    FinalProgressOf,
    Reading,
    SettingsOf,
    Writing,
    found_search,
    get_database,
)
from service.leaderboard_query import RESPONSES, LeaderboardQueryOf, leaderboard_answer
from service.logs import told
from service.pagination import link_to
from service.problems import Conflict, problem_responses
from service.schemas import CandidateList, CandidateView, LeaderboardView, SearchList, SearchView

log = logging.getLogger(__name__)
router = APIRouter(tags=["searches"])


IdempotencyName = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A name of the client's choice for this search, e.g. a UUID. Posted again under it within a day, "
        "with the same API key, the same request is answered with the same search, and another one with 409.",
    ),
]
_POSTED_BEFORE: dict[int | str, dict[str, Any]] = {
    200: {"model": SearchView, "description": "The search that was posted before under this Idempotency-Key."}
}


@router.post("/search", status_code=201, responses=_POSTED_BEFORE | problem_responses(409, 413))
def post_search(
    request: SearchRequest,
    database: Annotated[Database, Depends(get_database)],
    session: Writing,
    settings: SettingsOf,
    caller: CallerOf,
    response: Response,
    idempotency_key: IdempotencyName = None,
) -> SearchView:
    """Starts a search: which architecture within the budgets is best at the first of the bit widths?

    Workers take it up at once; the answer's links lead to its progress, events and leaderboard.
    """
    named = None if idempotency_key is None else (Name(caller.key_id, idempotency_key), request)
    try:
        with database.read() as reading:  # most that is posted again was answered long ago: nothing is locked for it
            search = None if named is None else posted_before(reading, *named)
            if search is not None:
                return _posted(reading, search, response, 200)
        resolved = plan(request, settings.data_root, settings.device)
        if settings.database_url is None:  # workers share this host, so what is missing here is missing for them
            resolved.task.check(settings.data_root)
        try:
            admit_search(session, caller.key_id, request)
            search = create_search(session, resolved, caller.key_id, named)
        except (NameTaken, TooManyRunning):  # it may be this very post that came twice at once
            search = None if named is None else posted_before(session, *named)
            if search is None:
                raise
            return _posted(session, search, response, 200)
    except OtherRequest as error:
        raise Conflict(
            f"This Idempotency-Key is that of search {error.search_id}, which was asked for otherwise; "
            "send a new key for a new search"
        ) from None
    log.info("search %d posted by %s", search.id, caller.name, extra=told(search=search.id, task=search.task))
    return _posted(session, search, response, 201)


def _posted(session: Session, search: Search, response: Response, status: int) -> SearchView:
    response.status_code = status
    response.headers["Location"] = f"/searches/{search.id}"
    return SearchView.of(search, progress(session, search))


@router.get("/searches")
def get_searches(
    request: Request,
    session: Reading,
    final: FinalProgressOf,
    limit: Annotated[int, Query(ge=1, le=100, description="Most on a page.")] = 20,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only searches older than this one.")] = None,
    status: Annotated[
        Literal["running", "finished", "failed", "cancelled"] | None, Query(description="Only such ones.")
    ] = None,
    task: Annotated[str | None, Query(max_length=64, description="Only those over this task.")] = None,
) -> SearchList:
    """Searches, newest first."""
    found = list_searches(session, limit + 1, before, status=status, task=task)
    following = link_to(request, before=found[limit - 1].id) if len(found) > limit else None
    told = final.of_all(session, found[:limit])
    searches = [SearchView.of(search, told[search.id]) for search in found[:limit]]
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


@router.post("/searches/{search_id}/extend", responses=problem_responses(413))
def post_extend(search_id: ChangeableSearchId, limits: Limits, session: Writing, caller: CallerOf) -> SearchView:
    """Gives a search the limits that are named; one that a limit had ended goes on. A cancelled one is refused."""
    admit_extension(session, caller.key_id, search_id, limits)
    search = found_search(extend_search(session, search_id, limits), search_id)
    return SearchView.of(search, progress(session, search))


@router.delete("/searches/{search_id}", status_code=204, responses=problem_responses(409))
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
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most on a page.")] = 1000,
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
