"""The leaderboard of a task over all searches."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from qcore import InvalidInput, get_task
from searcher.leaderboard import leaderboard_of_task, leaderboard_revisions
from searcher.named import DEFAULT_BIT_WIDTHS, parse_bit_widths, recipe_from_text, resolve_recipe
from searcher.searches import get_search
from service.conditional import etag_of, not_modified
from service.dependencies import MOST_ID, BoardsOf, SettingsOf, reads
from service.leaderboard_query import RESPONSES, LeaderboardQueryOf, leaderboard_answer
from service.schemas import LeaderboardView

router = APIRouter(tags=["leaderboard"])


@router.get("/leaderboard", response_model=LeaderboardView, responses=RESPONSES)
@reads(counted=True)
def get_leaderboard(
    request: Request,
    session: Session,
    settings: SettingsOf,
    boards: BoardsOf,
    query: LeaderboardQueryOf,
    task: Annotated[str, Query(description="Name of a task, as GET /tasks lists them.", examples=["digits"])],
    recipe: Annotated[
        str | None,
        Query(
            description="A recipe's name, or overrides as a JSON object; the task's default if not given.",
            examples=["short", '{"float_part": {"schedule": {"epochs": 30}}}'],
        ),
    ] = None,
    bit_widths: Annotated[
        str, Query(description="Comma-separated; the first ranks.", examples=["W2A2,W2AF"])
    ] = ",".join(DEFAULT_BIT_WIDTHS),
    search: Annotated[
        int | None,
        Query(ge=1, le=MOST_ID, description="Candidates of this search only, with whatever seeds they have."),
    ] = None,
) -> Response:
    """Every finished evaluation of a task and recipe, from whichever search, ranked by the first bit widths.

    Entries are ranked among those that the filters leave.
    """
    found = get_task(task, settings.data_root)
    given = None if recipe is None else recipe_from_text(recipe)
    chosen = resolve_recipe(found, given, settings.data_root, settings.device)
    names = bit_widths.split(",")
    ranking = parse_bit_widths(names)
    query.check_block(found)
    if search is not None and get_search(session, search) is None:
        raise InvalidInput("search", search, "does not exist", "GET /searches lists those that do")
    revisions = leaderboard_revisions(session, found, chosen, ranking)
    etag = etag_of(request.app.version, request.url.query, query.format, chosen.hash(), revisions)
    if unchanged := not_modified(request, etag):
        return unchanged
    page = leaderboard_of_task(
        session, found, chosen, ranking, query.filters, query.order, search_id=search, boards=boards
    )
    return leaderboard_answer(request, query, found, chosen, names, page, etag)
