"""Several API processes on one database: whichever a client meets, it is sent what follows its last event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from loops import run_async

from searcher.database import Database
from searcher.events import emit, events_after, lock_searches
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.searches import cancel_search, create_search
from searcher.tables import Search
from service import feed
from service.feed import Feed
from service.lanes import Lanes

EVENTS, MOST_SECONDS = 40, 60


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.05)


def post(database: Database) -> int:
    request = SearchRequest(task="digits", parameter_budget=4000, architectures=["basic-L8-D3"])
    with database.write() as session:
        return create_search(session, plan(request)).id


def tell(database: Database, search_id: int) -> None:
    with database.write() as session:
        emit(session, lock_searches(session, [search_id]), "tick")


def stored(database: Database, search_id: int) -> list[int]:
    with database.read() as session:
        return [each.id for each in events_after(session, search_id, 0)]


def ids_in(sent: bytes) -> Iterator[int]:
    for line in sent.split(b"\n"):
        if line.startswith(b"id: "):
            yield int(line.removeprefix(b"id: "))


async def first(of: Feed, search_id: int, seen: int) -> list[int]:
    """What the first piece of a stream with events has; nothing when the stream ends before."""
    async with asyncio.timeout(MOST_SECONDS), aclosing(of.happenings(search_id, seen)) as happenings:
        async for sent in happenings:
            if found := list(ids_in(sent)):
                return found
    return []


def feed_of(database: Database) -> Feed:
    """The feed of one more API process."""
    return Feed(database, Lanes(one_writer=database.embedded))


async def everything(of: Feed, search_id: int, seen: int) -> list[int]:
    """What a stream has until it ends."""
    async with asyncio.timeout(MOST_SECONDS), aclosing(of.happenings(search_id, seen)) as happenings:
        return [each async for sent in happenings for each in ids_in(sent)]


async def keep(of: Feed, search_id: int) -> None:
    """Watches until the stream ends, so that its channel stays."""
    await everything(of, search_id, 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_client_that_meets_another_process_at_every_event_gets_each_event_once(database: Database, seed: int) -> None:
    search_id = post(database)
    draw = random.Random(seed)

    async def watched() -> tuple[list[int], list[int]]:
        feeds = feed_of(database), feed_of(database)
        watchers = [asyncio.create_task(keep(each, search_id)) for each in feeds]
        received: list[int] = []
        while len(received) < EVENTS:
            await asyncio.to_thread(tell, database, search_id)
            if draw.random() < 0.3:
                await asyncio.to_thread(tell, database, search_id)
            received += await first(draw.choice(feeds), search_id, max(received, default=0))
        with database.write() as session:
            cancel_search(session, search_id)
        rest = [await everything(each, search_id, received[-1]) for each in feeds]
        assert rest[0] == rest[1]
        await asyncio.gather(*watchers)
        return received, rest[0]

    received, rest = run_async(watched())

    assert received + rest == stored(database, search_id)


def test_what_followed_another_extension_is_not_missing_where_the_former_end_is_known(database: Database) -> None:
    search_id = post(database)

    async def watched() -> tuple[list[int], list[int]]:
        known = feed_of(database)
        with database.write() as session:
            session.get_one(Search, search_id).status = "finished"
        async with aclosing(known.happenings(search_id, 0)) as slow:  # which keeps what is known
            await anext(slow)
            with database.write() as session:
                session.get_one(Search, search_id).status = "running"
            tell(database, search_id)
            with database.write() as session:
                emit(session, lock_searches(session, [search_id]), "last")
                session.get_one(Search, search_id).status = "finished"
            return stored(database, search_id), await everything(known, search_id, 0)

    expected, received = run_async(watched())

    assert received == expected


def test_an_event_that_is_later_than_any_stands_for_none_in_every_process(database: Database) -> None:
    search_id, other = post(database), post(database)
    tell(database, search_id)
    for _ in range(3):
        tell(database, other)
    of_another = stored(database, other)[-1]

    async def watched() -> list[list[int]]:
        feeds = feed_of(database), feed_of(database)
        watchers = [asyncio.create_task(keep(each, search_id)) for each in feeds]
        found = [await first(each, search_id, seen) for each in feeds for seen in (of_another, 10**12)]
        with database.write() as session:
            cancel_search(session, search_id)
        await asyncio.gather(*watchers)
        return found

    before = stored(database, search_id)
    found = run_async(watched())

    assert found == [before] * 4
