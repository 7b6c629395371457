"""How much a database holds and how its pool is, in numbers for whoever watches over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from searcher.tables import Evaluation, Search, Worker
from searcher.workers import DRIVER, is_fit, lives

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_ENDED = ("done", "failed", "lost", "cancelled")


@dataclass(frozen=True)
class PoolFigures:
    """What changes from second to second; read by indexes, however much is stored."""

    searches: dict[str, int]
    """By status."""
    queued: int
    """Evaluations that wait for a worker."""
    running: int
    """Evaluations that a worker holds."""
    leases_ended: int
    """Evaluations whose worker lost its lease and that nobody has taken over yet."""
    workers: dict[str, int]
    """By what they do: working, idle or unfit."""
    drivers: int
    """Of Ray clusters."""


@dataclass(frozen=True)
class StoreFigures:
    """What is counted by reading a whole index: seldom enough."""

    evaluations: dict[str, int]
    """Ended ones, by status."""
    lost_claims: int
    """Claims of stored evaluations that brought no end: the worker died or lost its lease, and another took over."""


def pool_figures(session: Session) -> PoolFigures:
    searches = dict(session.execute(select(Search.status, func.count()).group_by(Search.status)).all())
    held = select(func.count()).where(Evaluation.is_held())
    ended = select(func.count()).where(Evaluation.is_abandoned())
    state = case((~is_fit(), "unfit"), (Worker.evaluation_id.is_not(None), "working"), else_="idle").label("state")
    is_driver = (Worker.device == DRIVER).label("is_driver")
    by_kind = select(is_driver, state, func.count()).where(lives()).group_by("is_driver", "state")
    workers, drivers = {"working": 0, "idle": 0, "unfit": 0}, 0
    for drives, state_of_these, count in session.execute(by_kind):
        if drives:
            drivers += count
        else:
            workers[state_of_these] += count
    return PoolFigures(
        searches=searches,
        queued=session.scalars(select(func.count()).where(Evaluation.status == "queued")).one(),
        running=session.scalars(held).one(),
        leases_ended=session.scalars(ended).one(),
        workers=workers,
        drivers=drivers,
    )


def store_figures(session: Session) -> StoreFigures:
    query = select(Evaluation.status, func.count()).where(Evaluation.status.in_(_ENDED)).group_by(Evaluation.status)
    counted = dict(session.execute(query).all())
    again = select(func.coalesce(func.sum(Evaluation.attempt - 1), 0)).where(Evaluation.attempt > 1)
    return StoreFigures({status: counted.get(status, 0) for status in _ENDED}, int(session.scalars(again).one()))
