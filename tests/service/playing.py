"""A worker played without torch, for tests that need results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from searcher import leases, results, tables
from searcher.database import Database
from searcher.proposals import propose


def play(database: Database, search_id: int, told: Callable[[tables.Evaluation, str], dict[str, Any]]) -> list[int]:
    """Ends every evaluation of a search; returns their numbers.

    ``told`` gives what is stored of a stage, by its evaluation and bit widths.
    """
    ended = []
    with database.write() as session:
        posted = session.get_one(tables.Search, search_id)
        for candidate in session.scalars(select(tables.Candidate).filter_by(search_id=posted.id)).all():
            propose(session, posted, candidate)
        while lease := leases.claim(session, "worker", 1000.0):
            ended.append(lease.evaluation_id)
            evaluation = session.get_one(tables.Evaluation, lease.evaluation_id)
            while stage := results.next_stage(session, lease):
                values = {"status": "done"} | told(evaluation, str(stage.plan.bit_widths))
                results.accept_stage(session, lease, stage.stage_id, **values)
    return ended


def play_worker(database: Database, search_id: int, seconds: float = 36.0, **values: Any) -> list[int]:
    """Ends every evaluation of a search, each stage after so many seconds; returns the evaluations' numbers."""
    told = {"validation_accuracy": 90.0, "test_accuracy": 89.0, "provenance": {"device": "cpu (x86_64)"}}
    return play(database, search_id, lambda _evaluation, _bits: {"train_seconds": seconds} | told | values)


def play_accuracies(database: Database, search: dict[str, Any], accuracies: dict[str, dict[str, float]]) -> None:
    """Ends every evaluation of a search at these accuracies by bit widths and architecture, a quarter more a seed."""

    def told(evaluation: tables.Evaluation, bits: str) -> dict[str, Any]:
        value = accuracies[bits][evaluation.architecture] + evaluation.seed / 4
        return {"validation_accuracy": value, "test_accuracy": value - 1, "train_seconds": 1.0, "provenance": {}}

    play(database, search["id"], told)


def rows(database: Database, table: Any, **values: Any) -> list[Any]:
    """Rows of a table with those values, by primary key."""
    with database.read() as session:
        query = select(table).filter_by(**values).order_by(*table.__table__.primary_key)
        return list(session.scalars(query))
