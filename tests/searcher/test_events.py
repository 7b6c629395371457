"""Events: what a reader that polls by the last id gets to see."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from building import at_once, claim, kinds, post, rows, status_of, work, work_all

from searcher.events import emit, events_after, lock_searches
from searcher.tables import Event

if TYPE_CHECKING:
    from searcher.database import Database

WRITERS = 4


def _after(database: Database, search_id: int, event_id: int, limit: int = 500) -> list[Event]:
    with database.read() as session:
        return events_after(session, search_id, event_id, limit)


def _emit(database: Database, search_ids: list[int], kind: str, **data: object) -> None:
    with database.write() as session:
        emit(session, lock_searches(session, search_ids), kind, **data)


def test_events_come_in_order_and_from_one_search(database: Database) -> None:
    one, other = post(database), post(database)
    for index in range(6):
        _emit(database, [one if index % 2 else other], f"kind{index}", index=index)
    events = _after(database, one, 0)
    assert [event.kind for event in events] == ["search_created", "kind1", "kind3", "kind5"]
    assert [event.data for event in events[1:]] == [{"index": 1}, {"index": 3}, {"index": 5}]
    assert {event.search_id for event in events} == {one}
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert all(event.created_at > 1.6e9 for event in events)


def test_only_events_after_the_given_one_are_returned(sqlite_database: Database) -> None:
    search_id = post(sqlite_database)
    for index in range(4):
        _emit(sqlite_database, [search_id], f"kind{index}")
    ids = [event.id for event in _after(sqlite_database, search_id, 0)]
    assert [event.id for event in _after(sqlite_database, search_id, ids[1])] == ids[2:]
    assert _after(sqlite_database, search_id, ids[-1]) == []
    assert _after(sqlite_database, search_id + 1, 0) == []


def test_a_limit_returns_the_oldest_first(sqlite_database: Database) -> None:
    search_id = post(sqlite_database)
    for index in range(4):
        _emit(sqlite_database, [search_id], f"kind{index}")
    seen = [event.kind for event in _after(sqlite_database, search_id, 0, limit=2)]
    assert seen == ["search_created", "kind0"]


def test_an_event_of_several_searches_is_told_to_each(sqlite_database: Database) -> None:
    searches = [post(sqlite_database) for _ in range(3)]
    _emit(sqlite_database, [searches[2], searches[0]], "told")
    assert [kinds(sqlite_database, each)[1:] for each in searches] == [["told"], [], ["told"]]


def test_an_event_is_gone_where_its_transaction_is_rolled_back(database: Database) -> None:
    search_id = post(database)
    try:
        with database.write() as session:
            emit(session, lock_searches(session, [search_id]), "never")
            session.flush()
            raise RuntimeError
    except RuntimeError:
        pass
    assert kinds(database, search_id) == ["search_created"]


def _seen_while(database: Database, search_id: int, ended: threading.Event) -> list[int]:
    """What a reader sees that polls by the last id it got, once more after the end."""
    seen: list[int] = []
    last_round = False
    while not last_round:
        last_round = ended.is_set()
        seen += [event.id for event in _after(database, search_id, seen[-1] if seen else 0, limit=3)]
        last_round = last_round and not _after(database, search_id, seen[-1])
    return seen


def test_a_polling_reader_misses_nothing_that_concurrent_writers_write(database: Database) -> None:
    search_id = post(database)
    ended = threading.Event()

    def write() -> int:
        for index in range(25):
            _emit(database, [search_id], "tick", index=index)
        return 0

    def write_all() -> None:
        try:
            at_once(*[write] * 2 * WRITERS)
        finally:
            ended.set()

    seen, _ = at_once(lambda: _seen_while(database, search_id, ended), write_all)
    assert seen == [event.id for event in rows(database, Event, search_id=search_id)]
    assert len(seen) == 1 + 25 * 2 * WRITERS


def test_a_polling_reader_misses_nothing_while_workers_work(database: Database) -> None:
    first = post(database, proposed=True, widths=list(range(3, 15)), parameter_budget=100_000)
    second = post(database, proposed=True, widths=list(range(8, 19)), parameter_budget=200_000, bit_widths=["W4A4"])
    ended = threading.Event()

    def work_until_done() -> None:
        try:
            at_once(*[lambda: work_all(database)] * WRITERS)
        finally:
            ended.set()

    seen_first, seen_second, _ = at_once(
        lambda: _seen_while(database, first, ended), lambda: _seen_while(database, second, ended), work_until_done
    )
    assert seen_first == [event.id for event in rows(database, Event, search_id=first)]
    assert seen_second == [event.id for event in rows(database, Event, search_id=second)]
    assert (status_of(database, first), status_of(database, second)) == ("finished", "finished")
    assert (kinds(database, first)[-1], kinds(database, second)[-1]) == ("search_finished", "search_finished")


def test_searches_that_have_ended_hear_nothing_more(sqlite_database: Database) -> None:
    first = post(sqlite_database, proposed=True, widths=[3])
    work(sqlite_database, claim(sqlite_database))
    told = kinds(sqlite_database, first)
    post(sqlite_database, proposed=True, widths=[3], bit_widths=["W4A4"])
    work(sqlite_database, claim(sqlite_database))
    assert kinds(sqlite_database, first) == told
