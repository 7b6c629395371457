"""Progress that is remembered: what is counted again, and what no more."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from building import claim, post, propose_candidates, run_out, work, work_all
from sqlalchemy import event, select

from searcher.final_progress import FinalProgress
from searcher.progress import progress_of_all
from searcher.request import Limits
from searcher.searches import cancel_search, extend_search
from searcher.tables import Search

if TYPE_CHECKING:
    from collections.abc import Iterator

    from searcher.database import Database


@contextmanager
def counting(database: Database) -> Iterator[list[str]]:
    """The statements that read stages."""
    found: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "stages" in statement:
            found.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def is_right(database: Database, final: FinalProgress) -> bool:
    """Whether it tells what the tables say, of all searches there are."""
    with database.read() as session:
        searches = session.scalars(select(Search)).all()
        return final.of_all(session, searches) == progress_of_all(session, searches)


def test_what_an_ended_search_did_is_counted_once(database: Database) -> None:
    first, second = post(database, widths=[3, 4]), post(database, widths=[5], bit_widths=["W4A4"])
    final = FinalProgress()
    assert is_right(database, final)
    run_out(database)
    assert is_right(database, final)

    with database.read() as session:
        searches = session.scalars(select(Search)).all()
        with counting(database) as read:
            told = final.of_all(session, searches)

    assert read == []
    assert {number: each.evaluations for number, each in told.items()} == {first: {"done": 2}, second: {"done": 1}}


def test_what_may_go_on_is_counted_again(database: Database) -> None:
    final = FinalProgress()
    cancelled = post(database, proposed=True, widths=[3, 4])
    post(database, proposed=True, widths=[3])
    lease = claim(database)
    with database.write() as session:
        cancel_search(session, cancelled)
    assert is_right(database, final)
    work(database, lease)  # for the other one
    assert is_right(database, final)

    limited = post(database, widths=[5, 6, 7], max_evaluations=2)
    propose_candidates(database, limited, most=2)
    work_all(database)
    assert is_right(database, final)
    with database.write() as session:
        extend_search(session, limited, Limits(max_evaluations=3))
    assert is_right(database, final)
    run_out(database)
    assert is_right(database, final)


def test_of_more_searches_than_are_held_the_latest_stay(sqlite_database: Database) -> None:
    for width in (3, 4, 5):
        post(sqlite_database, widths=[width])
    run_out(sqlite_database)
    final = FinalProgress(most_searches=2)
    assert is_right(sqlite_database, final)
    with sqlite_database.read() as session:
        *_, older, newest = session.scalars(select(Search).order_by(Search.id)).all()
        with counting(sqlite_database) as read:
            final.of_all(session, [older, newest])
    assert read == []
    assert is_right(sqlite_database, final)
