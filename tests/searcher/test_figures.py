"""Figures for operators are read by indexes, however much is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from building import post, work_all
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from qcore import get_task
from searcher.database import Database
from searcher.estimate import _newest_results
from searcher.figures import pool_figures, store_figures

ASK: list[Callable[[Session], Any]] = [
    pool_figures,
    store_figures,
    lambda session: _newest_results(session, get_task("digits"), "cpu"),
]


@pytest.mark.parametrize("ask", ASK, ids=["pool", "store", "estimate"])
def test_no_evaluation_is_read_that_is_not_counted(database: Database, ask: Callable[[Session], Any]) -> None:
    post(database, proposed=True)
    work_all(database)
    statements: list[tuple[str, Any]] = []
    with database.read() as session:
        event.listen(session.connection(), "before_cursor_execute", lambda *given: statements.append(given[2:4]))
        ask(session)
        asked = [each for each in statements if "evaluations" in each[0]]
        plans = [_plan(session, database, *each) for each in asked]

    assert plans
    for plan in plans:
        assert "Seq Scan on evaluations" not in plan, plan
        assert "SCAN evaluations\n" not in plan, plan


def _plan(session: Session, database: Database, statement: str, parameters: Any) -> str:
    if not database.embedded:
        session.execute(text("SET LOCAL enable_seqscan = off"))  # so few rows would not be worth an index
    explain = "EXPLAIN QUERY PLAN" if database.embedded else "EXPLAIN"
    lines = session.connection().exec_driver_sql(f"{explain} {statement}", parameters)
    return "\n".join(str(line[-1]) for line in lines) + "\n"
