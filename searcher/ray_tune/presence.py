"""Drivers among the workers: whether one is there, and whether it has been told to stop. Needs no Ray."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

from sqlalchemy import select

from qcore.devices import usable_cores
from qcore.provenance import versions
from searcher import workers
from searcher.tables import Evaluation, Worker

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DEVICE = workers.DRIVER
BEAT_SECONDS = 10.0
_SILENCE_SECONDS = 60.0
"""After which a driver is taken for dead."""


def new_driver_id() -> str:
    """Half as long as a worker's, so that its trials' ids can begin with it."""
    return secrets.token_hex(8)


def new_trial_id(driver_id: str) -> str:
    return driver_id + secrets.token_hex(8)


def register(session: Session, driver_id: str) -> None:
    session.add(
        Worker(
            id=driver_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=DEVICE,
            cores=usable_cores(),
            threads=1,
            versions=versions(),
            lease_seconds=_SILENCE_SECONDS,
        )
    )


def beat(session: Session, driver_id: str) -> None:
    workers.beat(session, driver_id, None)


def note_fitness(session: Session, driver_id: str, problem: str | None) -> None:
    """Says why a driver can place nothing; None that it can."""
    workers.note_fitness(session, driver_id, problem)


def stop(session: Session, driver_id: str) -> None:
    """Tells a driver's trials to hand back what they have at once."""
    workers.end(session, driver_id)


def has_stopped(session: Session, driver_id: str) -> bool:
    stopped = select(Worker.id).where(Worker.id == driver_id, Worker.stopped_at.is_not(None))
    return session.scalars(stopped).first() is not None


def has_trials(session: Session, driver_id: str) -> bool:
    """Whether any of a driver's trials holds an evaluation."""
    held = select(Evaluation.id).where(Evaluation.is_held(), Evaluation.worker_id.startswith(driver_id))
    return session.scalars(held.limit(1)).first() is not None
