"""Statements whose text is made once, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from building import claim, post
from sqlalchemy import Integer, String, bindparam, event, literal, select, text

from searcher import leases
from searcher.database import Database
from searcher.statements import ask
from searcher.tables import Search

if TYPE_CHECKING:
    from sqlalchemy import Select

AWKWARD = ["it's", "100 %", "%(name)s", ":name", "a\\b", '"', "é", "%s %%"]


def _constants(value: str) -> Select[Any]:
    given = bindparam("given", type_=String)
    same = literal(value).in_([value, "another"])
    return select(literal(value), given, literal(7), literal(None, Integer), same, literal(value) + given)


@pytest.mark.parametrize("value", AWKWARD)
def test_constants_and_parameters_come_back_as_they_are(database: Database, value: str) -> None:
    with database.read() as session:
        for given in (value, value[:1]):
            found = ask(session, _constants, value, given=given).one()
            assert tuple(found) == (value, given, 7, None, True, value + given)


def _of_status() -> Select[int]:
    return select(Search.id).where(Search.status.in_(["running"]), Search.priority >= bindparam("least"))


def test_a_statement_is_made_once_whatever_its_parameters_are(database: Database) -> None:
    made = []

    def make() -> Select[int]:
        made.append(1)
        return _of_status()

    search_id = post(database)
    with database.read() as session:
        found = [ask(session, make, least=least).scalars().all() for least in (-1, 0, 1)]
    assert (found, made) == ([[search_id], [search_id], []], [1])


def test_the_claim_is_one_text_whatever_was_asked_before_and_who_claims(postgres_database: Database) -> None:
    """Else each would be prepared and planned for itself."""
    texts: set[str] = set()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        texts.add(statement)

    post(postgres_database, proposed=True)
    event.listen(postgres_database.engine, "before_cursor_execute", note)
    for number, asked in enumerate(({}, {70: 1}, {70: 1, 80: 2})):
        with postgres_database.write() as session:
            assert leases.claim(session, f"worker {number}", 10.0, asked) is not None
    event.remove(postgres_database.engine, "before_cursor_execute", note)
    assert len([text for text in texts if "UPDATE evaluations" in text]) == 1


def test_the_plan_of_a_claim_is_kept(postgres_database: Database) -> None:
    """By one connection, though turns are taken between claims."""
    post(postgres_database, proposed=True, widths=list(range(3, 20)), parameter_budget=1_000_000)
    for _ in range(14):  # the driver prepares the sixth, and PostgreSQL plans five of the prepared ones for themselves
        claim(postgres_database)
        with postgres_database.turn(1) as mine:
            assert mine
    query = text("SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE '%UPDATE evaluations%'")
    with postgres_database.read() as session:
        assert session.scalars(query).all() == [4]
