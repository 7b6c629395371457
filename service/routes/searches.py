"""Searches: posted, listed, watched, cancelled, deleted."""

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.orm import Session

from qcore import InvalidInput, stored_task
from searcher.allowances import TooManyRunning, admit_extension, admit_search, check_request
from searcher.database import Database
from searcher.idempotency import Name, NameTaken, OtherRequest, posted_before
from searcher.leaderboard import leaderboard_of_search
from searcher.plan import SearchPlan, plan
from searcher.plan_keys import PlanKeys, keys_of_plan
from searcher.progress import candidates_of, progress
from searcher.request import Limits, SearchRequest
from searcher.searches import cancel_search, create_search, delete_search, extend_search, list_searches
from searcher.situation import recipes_of
from searcher.tables import Search
from service.access.caller import Caller
from service.dependencies import (
    MOST_ID,
    CallerOf,
    DatabaseOf,
    FinalProgressOf,
    SearchId,
    SettingsOf,
    check_may_change,
    existing_search,
    found_search,
    reads,
    writes,
)
from service.lanes import Lane, TurnsOf, as_json
from service.leaderboard_query import RESPONSES, LeaderboardQueryOf, leaderboard_answer
from service.logs import told
from service.pagination import link_to
from service.problems import Conflict, problem_responses
from service.schemas import CandidateList, CandidateView, LeaderboardView, SearchList, SearchView
from service.settings import Settings

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


@router.post(
    "/search", status_code=201, response_model=SearchView, responses=_POSTED_BEFORE | problem_responses(409, 413)
)
async def post_search(
    request: SearchRequest,
    database: DatabaseOf,
    settings: SettingsOf,
    caller: CallerOf,
    turns: TurnsOf,
    idempotency_key: IdempotencyName = None,
) -> Response:
    """Starts a search: which architecture within the budgets is best at the first of the bit widths?

    Workers take it up at once; the answer's links lead to its progress, events and leaderboard.
    """
    named = None if idempotency_key is None else (Name(caller.key_id, idempotency_key), request)
    try:
        # What takes time comes before the transaction that shuts other writers out.
        planned = await turns.take(Lane.PLANNING, _planned, database, settings, caller, request, named)
        if isinstance(planned, Response):
            return planned
        return await turns.take(Lane.WRITES, _stored, database, caller, planned, request, named)
    except OtherRequest as error:
        raise Conflict(
            f"This Idempotency-Key is that of search {error.search_id}, which was asked for otherwise; "
            "send a new key for a new search"
        ) from None


def _planned(
    database: Database,
    settings: Settings,
    caller: Caller,
    request: SearchRequest,
    named: tuple[Name, SearchRequest] | None,
) -> tuple[SearchPlan, PlanKeys] | Response:
    """What a search would try, and train; or the answer, where it was posted before."""
    with database.read() as session:  # nothing is locked for what was answered long ago, or is not to be answered
        if named is not None:
            search = posted_before(session, *named)
            if search is not None:
                return _posted(session, search, 200)
        check_request(session, caller.key_id, request)
    planned = plan(request, settings.data_root, settings.device)
    if settings.database_url is None:  # workers share this host, so what is missing here is missing for them
        planned.task.check(settings.data_root)
    return planned, keys_of_plan(planned)


def _stored(
    database: Database,
    caller: Caller,
    planned: tuple[SearchPlan, PlanKeys],
    request: SearchRequest,
    named: tuple[Name, SearchRequest] | None,
) -> Response:
    with database.write() as session:
        try:
            admit_search(session, caller.key_id, request)
            search = create_search(session, planned[0], caller.key_id, named, planned[1])
        except (NameTaken, TooManyRunning):  # it may be this very post that came twice at once
            before = None if named is None else posted_before(session, *named)
            if before is None:
                raise
            return _posted(session, before, 200)
        answer = _posted(session, search, 201)
    log.info("search %d posted by %s", search.id, caller.name, extra=told(search=search.id, task=search.task))
    return answer


def _posted(session: Session, search: Search, status: int) -> Response:
    return as_json(SearchView.of(search, progress(session, search)), status, {"Location": f"/searches/{search.id}"})


@router.get("/searches")
@reads()
def get_searches(
    request: Request,
    session: Session,
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
@reads()
def get_search(session: Session, search_id: SearchId) -> SearchView:
    """A search and how far it is."""
    search = existing_search(session, search_id)
    return SearchView.of(search, progress(session, search))


@router.post("/searches/{search_id}/cancel")
@writes
def post_cancel(session: Session, search_id: SearchId, caller: CallerOf) -> SearchView:
    """Ends a running search; work that another search wants goes on. An ended search stays as it is."""
    check_may_change(session, search_id, caller)
    search = found_search(cancel_search(session, search_id), search_id)
    return SearchView.of(search, progress(session, search))


@router.post("/searches/{search_id}/extend", responses=problem_responses(413))
@writes
def post_extend(session: Session, search_id: SearchId, limits: Limits, caller: CallerOf) -> SearchView:
    """Gives a search the limits that are named; one that a limit had ended goes on. A cancelled one is refused."""
    check_may_change(session, search_id, caller)
    admit_extension(session, caller.key_id, search_id, limits)
    search = found_search(extend_search(session, search_id, limits), search_id)
    return SearchView.of(search, progress(session, search))


@router.delete("/searches/{search_id}", status_code=204, responses=problem_responses(409))
@writes
def delete_one(session: Session, search_id: SearchId, caller: CallerOf) -> None:
    """Removes an ended search with its candidates and events; evaluations and their results stay, for others to share.

    One that is running is refused: cancel it first.
    """
    check_may_change(session, search_id, caller)
    search = found_search(delete_search(session, search_id), search_id)
    if search.status == "running":
        raise Conflict(f"search {search_id} is running; POST /searches/{search_id}/cancel first, and then delete it")


@router.get("/searches/{search_id}/candidates")
@reads(Lane.PLANNING)
def get_candidates(
    request: Request,
    session: Session,
    search_id: SearchId,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most on a page.")] = 1000,
    after: Annotated[int, Query(ge=0, le=MOST_ID, description="Only candidates after the one of this id.")] = 0,
) -> CandidateList:
    """Every feasible architecture of a search, with costs and evaluations."""
    search = existing_search(session, search_id)
    found = candidates_of(session, search, limit + 1, after)
    following = link_to(request, after=found[limit - 1][0].id) if len(found) > limit else None
    return CandidateList(candidates=[CandidateView.of(search, *each) for each in found[:limit]], next=following)


@router.get("/searches/{search_id}/leaderboard", response_model=LeaderboardView, responses=RESPONSES)
@reads()
def get_search_leaderboard(
    request: Request,
    session: Session,
    search_id: SearchId,
    query: LeaderboardQueryOf,
    rung: Annotated[int | None, Query(ge=0, le=9, description="One of its rungs, in place of the full recipe.")] = None,
) -> Response:
    """A search's candidates, ranked by validation accuracy at its first bit widths.

    Entries are ranked among those that the filters leave.
    """
    search = existing_search(session, search_id)
    recipes = recipes_of(search)
    if rung is not None and rung >= len(recipes) - 1:
        has = "has no rungs" if len(recipes) == 1 else f"has rungs 0 to {len(recipes) - 2}"
        raise InvalidInput("rung", rung, f"is not there: search {search.id} {has}", "leave it out for the full recipe")
    task, bit_widths = stored_task(search.task, search.task_version), search.bit_widths[: None if rung is None else 1]
    query.check_block(task)
    page = leaderboard_of_search(session, search, rung, query.filters, query.order)
    return leaderboard_answer(request, query, task, recipes[-1 if rung is None else rung], bit_widths, page)
