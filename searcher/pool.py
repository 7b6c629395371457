"""The workers of a pool, as the tables know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from searcher.database import database_now
from searcher.ray_tune.presence import DEVICE as DRIVER
from searcher.tables import Evaluation, Worker

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SILENCE_SECONDS = 60.0
"""After which a worker that has not said that it stopped is taken for dead."""


def live_workers(session: Session) -> tuple[int, int]:
    """How many workers there are, and how many of them hold no evaluation."""
    live = select(func.count()).where(
        Worker.stopped_at.is_(None),
        Worker.heartbeat_at > database_now() - SILENCE_SECONDS,
        Worker.device != DRIVER,
    )
    busy = select(func.count()).where(Evaluation.status == "running", Evaluation.lease_ends > database_now())
    count = session.scalars(live).one()
    return count, max(0, count - session.scalars(busy).one())
