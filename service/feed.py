"""What happens to searches, for all clients that watch: read from the database by one poller, however many they are.

Clients pull: each keeps the id of the last event it has sent on and takes what follows from the search's channel, or
from the database where the channel does not reach back so far. Nothing is queued for a client, so one that is slow
costs nothing and misses nothing, and none holds a database session while it waits.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from bisect import bisect_right
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from searcher.events import events_after, events_after_each, latest_event
from searcher.progress import progress
from searcher.searches import searches_by_id
from service.lanes import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping

    from sqlalchemy.orm import Session

    from searcher.database import Database
    from searcher.tables import Event, Search
    from service.lanes import Lanes

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
_REST_PER_LOOK = 4
"""The poller rests so many times as long as a look took it: workers' claims come first, however much is watched."""
_PROGRESS_SECONDS = 1.0
_PROGRESS_AT_ONCE = 20
"""Of so many searches in one look: events are cheap, and do not wait for it."""
_MOST_EVENTS = 1000
"""In one look, and kept in a channel."""
_CAUGHT_UP_AT_ONCE = 500


class Happening(NamedTuple):
    """An event, written once for all clients."""

    id: int
    sent: bytes
    """As it is sent."""


@dataclass
class Channel:
    """What is known of one search that is watched."""

    search_id: int
    watchers: int = 0
    cursor: int | None = None
    """Id of the newest event that was looked at; None before the first look."""
    base: int = 0
    """Events after this one are in ``recent``."""
    recent: list[Happening] = field(default_factory=list)
    progress: bytes = b""
    """As it is sent, with the search's status."""
    has_ended: bool = False
    """It does not run, and all its events have been looked at; or there is no such search any more."""
    progress_at: float = 0.0
    looked_at: float = -math.inf
    """When the newest look began that left no event out; it has seen what was committed before."""
    is_looked_for: bool = False
    """Somebody waits for another look, whatever it finds."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the next change; another takes its place."""

    def after(self, event_id: int) -> list[Happening]:
        """Events after one that is not older than ``base``."""
        return self.recent[bisect_right(self.recent, event_id, key=lambda each: each.id) :]

    def is_behind(self, seen: int, arrived: float) -> bool:
        """Whether another look is needed for who came at that time, and has seen that event."""
        if self.cursor is None:
            return not self.has_ended
        return (self.has_ended or seen > self.cursor) and self.looked_at < arrived

    def tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Feed:
    """Channels of one app, all used in its event loop."""

    def __init__(self, database: Database, lanes: Lanes) -> None:
        self._database, self._lanes = database, lanes
        self._channels: dict[int, Channel] = {}
        self._poller: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        """Set when somebody waits for a first look."""
        self.is_closed = False

    @property
    def watched(self) -> Collection[int]:
        """Ids of the searches that somebody watches."""
        return self._channels.keys()

    def close(self) -> None:
        """Ends every stream; clients come back to whichever server answers then."""
        self.is_closed = True
        for channel in self._channels.values():
            channel.tell()

    async def happenings(self, search_id: int, seen: int) -> AsyncGenerator[bytes]:
        """A search's events after one of them, as they are sent, and its progress before them whenever it has changed.

        As many at once as there are; a comment while nothing happens. Ends with the search. An event that is later than
        any of the search's stands for none: it was another search's.
        """
        async with self._watch(search_id) as channel:
            await self._catch_up(channel, seen)
            if channel.cursor is not None and seen > channel.cursor:
                seen = 0
            told = b""
            while not self.is_closed:
                # One state of the channel: it goes on while a client takes its time.
                changed, has_ended, news = channel.changed, channel.has_ended, channel.after(max(seen, channel.base))
                base = channel.base
                if channel.progress not in (b"", told):
                    told = channel.progress
                    yield told
                while seen < base and (older := await self._lanes.run(Lane.FEED, self._older, search_id, seen, base)):
                    yield b"".join(each.sent for each in older)
                    seen = older[-1].id
                if news:
                    yield b"".join(each.sent for each in news)
                    seen = news[-1].id
                if changed.is_set():
                    continue
                if has_ended:
                    return
                while not changed.is_set():
                    try:
                        async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                            await changed.wait()
                    except TimeoutError:
                        yield KEEPALIVE_COMMENT

    async def _catch_up(self, channel: Channel, seen: int) -> None:
        """Waits until a channel knows what a client knows, who may have come from another process that looked later."""
        arrived = time.monotonic()
        while not self.is_closed and channel.is_behind(seen, arrived):
            channel.is_looked_for = True
            self._wanted.set()
            await channel.changed.wait()

    @asynccontextmanager
    async def _watch(self, search_id: int) -> AsyncIterator[Channel]:
        channel = self._channels.setdefault(search_id, Channel(search_id))
        channel.watchers += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="feed")
        try:
            yield channel
        finally:
            channel.watchers -= 1
            if channel.watchers == 0:
                del self._channels[search_id]

    async def _poll(self) -> None:
        """Looks again and again, while anybody watches."""
        while self._channels and not self.is_closed:
            self._wanted.clear()
            started = time.monotonic()
            rest = POLL_SECONDS
            try:
                is_all = await self._look_once(started)
            except SQLAlchemyError as error:
                self._database.outage.begin(error)
            else:
                rest = max(POLL_SECONDS if is_all else 0.0, _REST_PER_LOOK * (time.monotonic() - started))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), rest)

    async def _look_once(self, now: float) -> bool:
        """One look at everything that is watched; False if there were more events than it took."""
        cursors = {each.search_id: each.cursor for each in self._channels.values()}
        found = await self._lanes.run(Lane.FEED, self._look, cursors, self._due(now))
        for search_id, seen in found.items():
            channel = self._channels.get(search_id)
            if channel is not None and channel.cursor == cursors[search_id]:  # else it was left and watched anew
                _note(channel, seen, now)
        return not any(seen.is_cut for seen in found.values())

    def _look(self, cursors: Mapping[int, int | None], due: Collection[int]) -> dict[int, _Seen]:
        """One short transaction. Status comes first: whoever reads that a search has ended sees its last event too."""
        with self._database.read() as session:
            searches = searches_by_id(session, cursors)
            since = {
                search_id: latest_event(session, search_id) if cursor is None else cursor
                for search_id, cursor in cursors.items()
                if search_id in searches
            }
            new: dict[int, list[Happening]] = {}
            events = events_after_each(session, since, _MOST_EVENTS)
            for event in events:
                new.setdefault(event.search_id, []).append(_happening(event))
            is_cut = len(events) == _MOST_EVENTS
            found = dict.fromkeys(cursors, _GONE)
            for search_id, search in searches.items():
                has_ended = search.status != "running" and not is_cut
                is_told_end = has_ended and (search_id in new or cursors[search_id] is None)
                told = _progress(session, search) if search_id in due or is_told_end else None
                found[search_id] = _Seen(since[search_id], new.get(search_id, []), told, has_ended, is_cut)
            return found

    def _due(self, now: float) -> set[int]:
        """The searches whose progress is to be looked at again, those that wait longest if there are many."""
        waiting = [each for each in self._channels.values() if now - each.progress_at >= _PROGRESS_SECONDS]
        waiting.sort(key=lambda each: each.progress_at)
        return {each.search_id for each in waiting[:_PROGRESS_AT_ONCE]}

    def _older(self, search_id: int, seen: int, last: int) -> list[Happening]:
        """Events that a channel does not reach back to, a batch at a time."""
        with self._database.read() as session:
            found = events_after(session, search_id, seen, _CAUGHT_UP_AT_ONCE)
            return [_happening(event) for event in found if event.id <= last]


class _Seen(NamedTuple):
    """What a look found of one search."""

    since: int | None
    """Id of the event that was seen before; None where the search is gone."""
    events: list[Happening]
    progress: bytes | None
    has_ended: bool
    is_cut: bool
    """There are more events than were taken."""


_GONE = _Seen(None, [], None, has_ended=True, is_cut=False)


def _note(channel: Channel, seen: _Seen, now: float) -> None:
    is_first = channel.cursor is None
    if seen.since is not None:
        if is_first:
            channel.cursor = channel.base = seen.since
        if seen.events:
            channel.recent += seen.events
            channel.cursor = seen.events[-1].id
            if len(channel.recent) > 2 * _MOST_EVENTS:
                channel.base = channel.recent[-_MOST_EVENTS - 1].id
                del channel.recent[:-_MOST_EVENTS]
    if not seen.is_cut:
        channel.looked_at = now
    is_news = is_first or bool(seen.events) or seen.has_ended != channel.has_ended or channel.is_looked_for
    channel.is_looked_for = False
    if seen.progress is not None:
        is_news = is_news or seen.progress != channel.progress
        channel.progress, channel.progress_at = seen.progress, now
    channel.has_ended = seen.has_ended
    if is_news:
        channel.tell()


def _progress(session: Session, search: Search) -> bytes | None:
    try:
        told = {"status": search.status, **asdict(progress(session, search))}
        return format_sse_event(event="progress", data_str=json.dumps(told))
    except ValueError as error:  # posted to a newer release: what others watch goes on
        log.warning("progress of search %d is not known here: %s", search.id, error)
        return None


def _happening(event: Event) -> Happening:
    sent = format_sse_event(event=event.kind, data_str=json.dumps(event.data), id=str(event.id))
    return Happening(event.id, sent)
