"""Server-sent events of a search: what happened, resumable by ``Last-Event-ID``, and how far it is."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse

from searcher.database import Database
from service.dependencies import MOST_ID, CallerOf, DatabaseOf, HoldersOf, SearchId, existing_search
from service.feed import Feed
from service.lanes import Lane, Lanes, TurnsOf

router = APIRouter(tags=["searches"])

_EVENT_STREAM = "text/event-stream"
_FIELDS = {name: {"type": "string"} for name in ("event", "data", "id")}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {_EVENT_STREAM: {"itemSchema": {"type": "object", "properties": _FIELDS}}}}
}

CHECK_SECONDS = 10.0
"""How long after a key was revoked, or somebody signed out, a stream may still tell something."""


async def _existing_search_id(search_id: SearchId, database: DatabaseOf, turns: TurnsOf) -> int:
    return await turns.take(Lane.READS, _checked, database, search_id)


def _checked(database: Database, search_id: int) -> int:
    with database.read() as session:
        return existing_search(session, search_id).id


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


@router.get("/searches/{search_id}/events", response_class=StreamingResponse, responses=_EVENTS)
async def get_events(
    request: Request,
    search_id: Annotated[int, Depends(_existing_search_id)],
    feed: Annotated[Feed, Depends(_feed)],
    holders: HoldersOf,
    caller: CallerOf,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event that was received; the stream goes on after it.")
    ] = None,
    after: Annotated[
        int, Query(ge=0, le=MOST_ID, description="The same for a first connection, for which browsers send no header.")
    ] = 0,
) -> StreamingResponse:
    """Events by kind (`stage_ended`, `search_finished`, ...), and `progress` whenever it changed.

    The stream ends with the search, whose end is its last event, with the key, or when the server stops. Only stored
    events have ids; progress is what it is at the moment. While nothing happens, a comment is sent every 15 seconds.
    """
    lanes: Lanes = request.app.state.lanes
    seen = after if last_event_id is None else _event_id(last_event_id)

    async def stream() -> AsyncIterator[bytes]:
        checked_at = time.monotonic()
        async with aclosing(feed.happenings(search_id, seen)) as happenings:
            async for each in happenings:
                if time.monotonic() - checked_at >= CHECK_SECONDS:
                    checked_at = time.monotonic()
                    if not await lanes.run(Lane.ACCESS, holders.are_let_in, caller):
                        return
                yield each

    # Events are written already: FastAPI's own streams write each anew for every client. Without the second header
    # Nginx would hold them back.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type=_EVENT_STREAM, headers=headers)


def _event_id(text: str) -> int:
    """An event's id; 0, before all of them, for what is none."""
    usable = text.isascii() and text.isdigit() and len(text) < 20
    return min(int(text), MOST_ID) if usable else 0
