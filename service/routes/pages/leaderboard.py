"""The leaderboard of a task over all searches, page by page."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session

from qcore import get_task, list_tasks
from searcher.board import SORT_KEYS, Filters, Order
from searcher.leaderboard import leaderboard_of_task
from searcher.named import DEFAULT_BIT_WIDTHS, parse_bit_widths, recipe_from_text, resolve_recipe
from service.cursors import MOST_CURSOR_CHARACTERS, read_cursor, write_cursor
from service.dependencies import BoardsOf, SettingsOf, reads
from service.routes.pages.leaderboard_table import Table, columns, headings, tied_ranks
from service.routes.pages.rendering import render
from service.routes.pages.table_query import SHOWN_ROWS, number_of
from service.schemas import LeaderboardView

router = APIRouter(default_response_class=HTMLResponse)

_FIRST_TASK = "digits"
_KEYS = {"float": "float_accuracy"} | {key: key for key in SORT_KEYS}
"""Sort keys by the columns they are of."""


@router.get("/ui/leaderboard")
@reads(counted=True)
def leaderboard_page(
    request: Request,
    session: Session,
    boards: BoardsOf,
    settings: SettingsOf,
    task: Annotated[str, Query(max_length=64)] = _FIRST_TASK,
    recipe: Annotated[str, Query(max_length=10_000)] = "",
    bit_widths: Annotated[str, Query(max_length=200)] = ",".join(DEFAULT_BIT_WIDTHS),
    block: Annotated[str, Query(max_length=32)] = "",
    max_parameters: Annotated[str, Query(max_length=20)] = "",
    sort: Annotated[str, Query(max_length=32)] = "rank",
    cursor: Annotated[str, Query(max_length=MOST_CURSOR_CHARACTERS)] = "",
) -> Response:
    """Forms send empty fields; they stand for none."""
    found = get_task(task, settings.data_root)
    chosen = resolve_recipe(found, recipe_from_text(recipe) if recipe else None, settings.data_root, settings.device)
    names = [name.strip() for name in bit_widths.split(",") if name.strip()] or list(DEFAULT_BIT_WIDTHS)
    page = leaderboard_of_task(
        session,
        found,
        chosen,
        parse_bit_widths(names),
        Filters(block=block or None, max_parameters=number_of(max_parameters)),
        Order(sort, read_cursor(cursor) if cursor else None, SHOWN_ROWS),
        boards=boards,
    )
    leaderboard = LeaderboardView.of(found, chosen, names, page)
    asked = {
        "task": task,
        "recipe": recipe,
        "bit_widths": bit_widths,
        "block": block,
        "max_parameters": max_parameters,
        "sort": sort,
    }

    def address(**changes: str) -> str:
        return f"?{urlencode({key: value for key, value in (asked | changes).items() if value})}"

    shown = headings(columns(names), sort, _KEYS, lambda key: address(sort=key))
    return render(
        request,
        "leaderboard.html",
        leaderboard=leaderboard,
        ranking=names[0],
        asked=asked,
        task=found,
        tasks=list_tasks(settings.data_root),
        table=Table(shown, leaderboard.entries, tied_ranks(leaderboard)),
        following=None if page.next is None else address(cursor=write_cursor(page.next)),
        first=address() if cursor else None,
        csv=f"/leaderboard{address(format='csv')}",
    )
