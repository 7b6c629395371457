"""What the two leaderboards' routes are asked, and how they answer: JSON or CSV, page by page."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from fastapi.responses import Response

from qcore import InvalidInput, Recipe, Task
from searcher.board import SORT_KEYS, Filters, Order
from searcher.leaderboard import LeaderboardPage
from service.conditional import NOT_MODIFIED, answer, etag_of, not_modified
from service.cursors import MOST_CURSOR_CHARACTERS, read_cursor, write_cursor
from service.dependencies import MOST_ID
from service.lanes import in_loop
from service.leaderboard_csv import leaderboard_csv
from service.pagination import link_to
from service.schemas import LeaderboardView

MOST_ENTRIES = 1000
_CSV = "text/csv"
_CSV_EXAMPLE = "rank,rank_lowest,rank_highest,architecture,...\r\n1,1,3,basic-L8-D8,...\r\n"

RESPONSES: dict[int | str, dict[str, Any]] = {
    **NOT_MODIFIED,
    200: {
        "description": "Entries of one page. Those that share a rank tie; `Link` names the next page.",
        "content": {_CSV: {"schema": {"type": "string"}, "example": _CSV_EXAMPLE}},
    },
}


@dataclass(frozen=True)
class LeaderboardQuery:
    filters: Filters
    order: Order
    format: str

    def check_block(self, task: Task) -> None:
        """Raises InvalidInput for a block kind that the task's networks do not have."""
        block = self.filters.block
        if block is not None and block not in task.blocks:
            raise InvalidInput(
                "block", block, f"does not suit task {task.name}", f"use one of {', '.join(task.blocks)}"
            )


def _leaderboard_query(
    request: Request,
    block: Annotated[str | None, Query(description="One block kind only.", examples=["basic"])] = None,
    max_parameters: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Of the float network.")] = None,
    max_model_bytes: Annotated[
        int | None, Query(ge=1, le=MOST_ID, description="As deployed, at the ranking bit widths.")
    ] = None,
    max_bit_operations: Annotated[
        int | None, Query(ge=1, le=MOST_ID, description="Of one input, at the ranking bit widths.")
    ] = None,
    sort: Annotated[
        str,
        Query(
            description=f"Upwards by one of {', '.join(SORT_KEYS)}; downwards with a minus before it. "
            "`rank` has the best first. Entries without the value come last.",
            examples=["rank", "-float_accuracy", "parameters"],
        ),
    ] = "rank",
    cursor: Annotated[
        str | None, Query(max_length=MOST_CURSOR_CHARACTERS, description="Of a page's `next`: what comes behind it.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES, description="Most entries on a page.")] = 50,
    format: Annotated[  # noqa: A002  the parameter's name
        Literal["json", "csv"] | None, Query(description="What `Accept` asks for if not given, or else JSON.")
    ] = None,
) -> LeaderboardQuery:
    accepted = request.headers.get("accept", "")
    return LeaderboardQuery(
        Filters(block, max_parameters, max_model_bytes, max_bit_operations),
        Order(sort, None if cursor is None else read_cursor(cursor), limit),
        format or ("csv" if _CSV in accepted and "application/json" not in accepted else "json"),
    )


LeaderboardQueryOf = Annotated[LeaderboardQuery, Depends(in_loop(_leaderboard_query))]


def leaderboard_answer(
    request: Request,
    query: LeaderboardQuery,
    task: Task,
    recipe: Recipe,
    bit_widths: list[str],
    page: LeaderboardPage,
    etag: str | None = None,
) -> Response:
    """The page in the format that was asked for, with a link to the next one and its ETag, its content's if none is
    given."""
    following = None
    if page.next is not None:
        following = link_to(request, cursor=write_cursor(page.next))
    view = LeaderboardView.of(task, recipe, bit_widths, page, following)
    headers = {} if following is None else {"Link": f'<{following}>; rel="next"'}
    is_csv = query.format == "csv"
    content = leaderboard_csv(view) if is_csv else view.model_dump_json()
    etag = etag or etag_of(content)
    return not_modified(request, etag) or answer(content, _CSV if is_csv else "application/json", etag, headers)
