"""Streams of events from a real server: one poller for all, resumable, and none the worse for a client that is slow."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import events_of, serving
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from searcher.database import Database
from searcher.events import emit, lock_searches
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.searches import cancel_search, create_search, delete_search
from service import feed
from service.app import create_app
from service.settings import Settings

CLIENTS = 20


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)


@pytest.fixture
def url(database: Database, tmp_path: Path) -> Iterator[str]:
    with serving(create_app(Settings(home=tmp_path, database_url=None), database)) as url:
        yield url


@pytest.fixture
def embedded_url(sqlite_database: Database, tmp_path: Path) -> Iterator[str]:
    """For what has nothing to do with the kind of database."""
    with serving(create_app(Settings(home=tmp_path, database_url=None), sqlite_database)) as url:
        yield url


def post(database: Database) -> int:
    with database.write() as session:
        return create_search(session, plan(SearchRequest(task="digits", parameter_budget=4000))).id


def tell(database: Database, search_id: int, count: int = 1, **data: Any) -> None:
    for index in range(count):
        with database.write() as session:
            emit(session, lock_searches(session, [search_id]), "tick", index=index, **data)


def cancel(database: Database, search_id: int) -> None:
    with database.write() as session:
        cancel_search(session, search_id)


class Watching(threading.Thread):
    """A client that notes what it receives, and says when it has received its first event."""

    def __init__(self, url: str, search_id: int, **options: Any) -> None:
        super().__init__(daemon=True)
        self.path, self.options = f"{url}/searches/{search_id}/events", options
        self.received: list[dict[str, Any]] = []
        self.begun = threading.Event()
        self.start()

    def run(self) -> None:
        with httpx.Client(timeout=60) as http, http.stream("GET", self.path, **self.options) as stream:
            for each in events_of(stream):
                self.received.append(each)
                if "id" in each:
                    self.begun.set()

    def ended(self) -> list[dict[str, Any]]:
        """What was received until the stream ended."""
        self.join(60)
        assert not self.is_alive(), "the stream goes on"
        return self.received

    @property
    def stored(self) -> list[str]:
        return [each["event"] for each in self.received if "id" in each]


def test_events_arrive_as_they_happen_and_the_stream_ends_with_the_search(database: Database, url: str) -> None:
    search_id = post(database)
    client = Watching(url, search_id)
    assert client.begun.wait(60)
    tell(database, search_id, 3)
    cancel(database, search_id)

    received = client.ended()

    assert client.stored == ["search_created", "tick", "tick", "tick", "search_cancelled"]
    ids = [int(each["id"]) for each in received if "id" in each]
    assert ids == sorted(set(ids))
    last_progress = [each["data"] for each in received if each["event"] == "progress"][-1]
    assert '"status": "cancelled"' in last_progress
    assert received[-1]["event"] == "search_cancelled"  # who has it knows from the progress before it what it means


def test_a_stream_goes_on_after_the_last_event_that_was_received(database: Database, url: str) -> None:
    search_id, other = post(database), post(database)
    for _ in range(4):
        tell(database, search_id)
        tell(database, other)
    cancel(database, search_id)
    whole = [each for each in Watching(url, search_id).ended() if "id" in each]

    for seen, rest in zip(whole, itertools.count(1), strict=False):
        by_header = Watching(url, search_id, headers={"Last-Event-ID": seen["id"]}).ended()
        assert [each for each in by_header if "id" in each] == whole[rest:]
    by_query = Watching(url, search_id, params={"after": whole[2]["id"]}).ended()
    assert [each for each in by_query if "id" in each] == whole[3:]
    of_another = Watching(url, search_id, headers={"Last-Event-ID": "999999"}).ended()
    assert [each for each in of_another if "id" in each] == whole


def test_a_stream_that_reaches_back_further_than_what_is_kept_comes_from_the_database(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_MOST_EVENTS", 3)
    monkeypatch.setattr(feed, "_CAUGHT_UP_AT_ONCE", 2)
    search_id = post(database)
    early = Watching(url, search_id)
    assert early.begun.wait(60)
    tell(database, search_id, 20)
    late = Watching(url, search_id)
    assert late.begun.wait(60)
    tell(database, search_id, 20)
    cancel(database, search_id)

    assert [each for each in early.ended() if "id" in each] == [each for each in late.ended() if "id" in each]
    assert early.stored == ["search_created", *["tick"] * 40, "search_cancelled"]


def test_one_poller_reads_for_all_clients_and_none_holds_a_session(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poller = threading.local()
    by_others: list[str] = []
    looks: list[int] = []
    look = feed.Feed._look

    def counted(self: Any, cursors: Any, due: Any) -> Any:
        poller.looks = True
        looks.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
        try:
            return look(self, cursors, due)
        finally:
            poller.looks = False

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not getattr(poller, "looks", False) and threading.current_thread() is not threading.main_thread():
            by_others.append(statement)

    monkeypatch.setattr(feed.Feed, "_look", counted)  # before any client: a look may be under way at any time later
    searches = [post(database) for _ in range(4)]
    clients = [Watching(url, searches[index % 4]) for index in range(CLIENTS)]
    assert all(client.begun.wait(60) for client in clients)
    looks.clear()
    event.listen(database.engine, "before_cursor_execute", note)
    for search_id in searches:
        tell(database, search_id, 5)
        cancel(database, search_id)
    received = [client.ended() for client in clients]
    event.remove(database.engine, "before_cursor_execute", note)

    assert all(each[-1]["event"] == "search_cancelled" for each in received)
    assert by_others == []
    assert set(looks) <= {0, 1}  # the one that this test writes with


def test_a_client_that_reads_nothing_delays_nobody_and_misses_nothing(
    sqlite_database: Database, embedded_url: str
) -> None:
    search_id = post(sqlite_database)
    slow = socket.create_connection(("127.0.0.1", int(embedded_url.rsplit(":", 1)[1])))
    slow.sendall(f"GET /searches/{search_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert slow.recv(1)  # it is served
    fast = Watching(embedded_url, search_id)
    assert fast.begun.wait(60)
    for _ in range(32):  # 16 MB: more than the sockets between take
        with sqlite_database.write() as session:
            searches = lock_searches(session, [search_id])
            for index in range(50):
                emit(session, searches, "tick", index=index, filling="x" * 10_000)
    cancel(sqlite_database, search_id)

    assert len([each for each in fast.ended() if "id" in each]) == 1602

    slow.settimeout(60)
    rest = b"".join(iter(lambda: slow.recv(1 << 16), b""))
    slow.close()
    ids = [int(line.removeprefix(b"id: ")) for line in rest.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [int(each["id"]) for each in fast.received if "id" in each]


def test_a_comment_says_that_a_silent_stream_is_alive(
    sqlite_database: Database, embedded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEEP_ALIVE_SECONDS", 0.01)
    search_id = post(sqlite_database)
    with httpx.stream("GET", f"{embedded_url}/searches/{search_id}/events", timeout=60) as stream:
        assert any("comment" in each for each in events_of(stream))


def test_a_database_that_is_away_makes_events_late_and_no_more(
    sqlite_database: Database, embedded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_id = post(sqlite_database)
    client = Watching(embedded_url, search_id)
    assert client.begun.wait(60)
    failed = threading.Event()
    look: Callable[..., Any] = feed.Feed._look

    def broken(self: Any, *arguments: Any) -> Any:
        failed.set()
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(feed.Feed, "_look", broken)
    assert failed.wait(60)
    tell(sqlite_database, search_id)
    cancel(sqlite_database, search_id)
    monkeypatch.setattr(feed.Feed, "_look", look)

    client.ended()
    assert client.stored == ["search_created", "tick", "search_cancelled"]


def test_the_stream_of_a_search_that_is_deleted_ends(sqlite_database: Database, embedded_url: str) -> None:
    search_id = post(sqlite_database)
    client = Watching(embedded_url, search_id)
    assert client.begun.wait(60)
    with sqlite_database.write() as session:
        cancel_search(session, search_id)
        delete_search(session, search_id)

    client.ended()
    assert httpx.get(f"{embedded_url}/searches/{search_id}/events").status_code == 404


def test_nothing_is_polled_once_nobody_watches_and_a_server_that_stops_ends_its_streams(
    sqlite_database: Database, tmp_path: Path
) -> None:
    app = create_app(Settings(home=tmp_path, database_url=None), sqlite_database)
    search_id = post(sqlite_database)
    with serving(app) as url:
        with httpx.stream("GET", f"{url}/searches/{search_id}/events", timeout=60) as stream:
            next(events_of(stream))
            assert list(app.state.feed.watched) == [search_id]
        poller = app.state.feed._poller
        pause = threading.Event()
        while not poller.done():
            pause.wait(0.01)
        assert list(app.state.feed.watched) == []
        client = Watching(url, search_id)
        assert client.begun.wait(60)
    client.ended()
    assert client.stored == ["search_created"]
