"""Server-sent events of a search: what happened, resumable by ``Last-Event-ID``, and how far it is."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent

from searcher.database import Database
from searcher.events import events_after
from searcher.progress import progress
from searcher.searches import get_search
from service.dependencies import MOST_ID, SearchId, found_search, get_database

router = APIRouter(tags=["searches"])

POLL_SECONDS = 0.5


def _existing_search_id(search_id: SearchId, database: Annotated[Database, Depends(get_database)]) -> int:
    with database.read() as session:
        return found_search(get_search(session, search_id), search_id).id


@router.get("/searches/{search_id}/events", response_class=EventSourceResponse)
async def get_events(
    search_id: Annotated[int, Depends(_existing_search_id)],
    database: Annotated[Database, Depends(get_database)],
    last_event_id: Annotated[str, Header()] = "0",
) -> AsyncIterator[ServerSentEvent]:
    """Events by kind (``stage_ended``, ``search_finished``, ...), and ``progress`` whenever it changed.

    The stream ends with the search, whose end is its last event. Only stored events have ids; progress is what it is
    at the moment.
    """
    usable = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 20
    seen = int(last_event_id) if usable else 0
    seen = min(seen, MOST_ID)
    told: dict[str, Any] | None = None
    while True:
        status, now, events = await run_in_threadpool(_look, database, search_id, seen)
        if now != told:
            yield ServerSentEvent(event="progress", data=now)
            told = now
        for event_id, kind, data in events:
            yield ServerSentEvent(id=str(event_id), event=kind, data=data)
            seen = event_id
        if status != "running" and not events:
            return
        await anyio.sleep(POLL_SECONDS)


def _look(database: Database, search_id: int, seen: int) -> tuple[str, dict[str, Any], list[tuple[int, str, Any]]]:
    """One short transaction: no session is held while a client waits."""
    with database.read() as session:
        search = found_search(get_search(session, search_id), search_id)
        events = [(event.id, event.kind, event.data) for event in events_after(session, search_id, seen)]
        return search.status, {"status": search.status, **asdict(progress(session, search))}, events
