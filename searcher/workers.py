"""Workers as the database knows them: what they have, what they do, and which tasks they lack the data of."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import and_, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import aliased

from qcore.devices import usable_cores
from qcore.memory import device_bytes
from qcore.provenance import versions
from searcher.database import database_now, read_clock
from searcher.tables import Evaluation, MissingData, Proposal, Search, Worker

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, ScalarSelect
    from sqlalchemy.orm import Session

    from searcher.worker_settings import WorkerSettings

DRIVER = "ray"
"""What the row of a Ray driver, which trains nothing itself, says in place of a device."""
NO_WORKER = "no worker runs: start one with `quantrank worker`"
_GONE_SHOWN_SECONDS = 24 * 3600.0
"""How long after its last sign of life a worker that is gone is still listed."""


@dataclass(frozen=True)
class WorkerStatus:
    """A worker that has not ended as it should."""

    worker: Worker
    status: Literal["working", "idle", "unfit", "gone"]
    """unfit: it lacks something to train at all; gone: its last sign of life is older than its lease."""
    evaluation: Evaluation | None
    """What it works on."""
    missing: list[MissingData]


def register(session: Session, worker_id: str, settings: WorkerSettings) -> None:
    """Lets the pool know of a worker, this process."""
    session.add(
        Worker(
            id=worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=settings.device,
            memory_bytes=device_bytes(settings.device),
            room_bytes=settings.room_bytes,
            cores=usable_cores(),
            threads=settings.threads,
            versions=versions(),
            lease_seconds=settings.lease_seconds,
        )
    )


def beat(session: Session, worker_id: str, evaluation_id: int | None) -> None:
    """Says that a worker lives and what it works on."""
    values = {"heartbeat_at": database_now(), "evaluation_id": evaluation_id}
    session.execute(update(Worker).where(Worker.id == worker_id).values(values))


def end(session: Session, worker_id: str) -> None:
    """Says that a worker has ended, or was seen to end."""
    values = {"stopped_at": database_now(), "evaluation_id": None}
    session.execute(update(Worker).where(Worker.id == worker_id).values(values))
    session.execute(delete(MissingData).where(MissingData.worker_id == worker_id))


def note_fitness(session: Session, worker_id: str, problem: str | None) -> None:
    """Says why a worker can train nothing; None that it can."""
    since = None if problem is None else func.coalesce(Worker.unfit_since, database_now())
    values = {"unfit_reason": problem, "unfit_since": since}
    session.execute(update(Worker).where(Worker.id == worker_id).values(values))


def list_workers(session: Session, limit: int | None = None, after_id: str | None = None) -> list[WorkerStatus]:
    """Workers that run, and those that vanished within a day, by host and device.

    All of them, or so many that come after the one of that id; none after one that never was.
    """
    now = read_clock(session)
    place = (Worker.host, Worker.device, Worker.started_at, Worker.id)
    query = (
        select(Worker, Evaluation)
        .outerjoin(Evaluation, Evaluation.id == Worker.evaluation_id)
        .where(Worker.stopped_at.is_(None), Worker.heartbeat_at >= now - _GONE_SHOWN_SECONDS)
        .order_by(*place)
        .limit(limit)
    )
    if after_id is not None:
        last = session.execute(select(*place).where(Worker.id == after_id)).first()
        if last is None:
            return []
        query = query.where(tuple_(*place) > tuple_(*last))
    found: list[WorkerStatus] = []
    missing: dict[str, list[MissingData]] = {}
    for each in session.scalars(select(MissingData).order_by(MissingData.task, MissingData.task_version)):
        missing.setdefault(each.worker_id, []).append(each)
    for worker, evaluation in session.execute(query):
        lacks = missing.get(worker.id, [])
        if worker.heartbeat_at + worker.lease_seconds < now:
            found.append(WorkerStatus(worker, "gone", None, lacks))
        elif worker.unfit_reason is not None:
            found.append(WorkerStatus(worker, "unfit", evaluation, lacks))
        else:
            found.append(WorkerStatus(worker, "working" if evaluation else "idle", evaluation, lacks))
    return found


def count_live(session: Session) -> tuple[int, int]:
    """How many workers that are fit there are, and how many of them hold no evaluation."""
    count = session.scalars(select(func.count()).where(lives(), is_fit(), Worker.device != DRIVER)).one()
    return count, max(0, count - session.scalars(select(func.count()).where(Evaluation.is_held())).one())


def is_fit(worker: type[Worker] = Worker) -> ColumnElement[bool]:
    """The SQL condition that a worker, or a driver, can train something."""
    return worker.unfit_reason.is_(None)


def problem_of_all(session: Session) -> str | None:
    """Why nothing at all is trained: no worker runs, or each is unfit; None if one is fit, or a Ray driver is."""
    if session.scalars(select(Worker.id).where(lives(), is_fit()).limit(1)).first() is not None:
        return None
    return _why_unfit(session, Worker.device != DRIVER) or _why_unfit(session, Worker.device == DRIVER) or NO_WORKER


def _why_unfit(session: Session, which: ColumnElement[bool]) -> str | None:
    """The reason of the one among such workers that has been unfit longest; None without any."""
    query = select(Worker.host, Worker.unfit_reason).where(lives(), ~is_fit(), which)
    found = session.execute(query.order_by(Worker.unfit_since, Worker.id).limit(1)).first()
    return None if found is None else f"every worker is unfit; on {found.host}: {found.unfit_reason}"


def why_no_driver(session: Session) -> str | None:
    """Why no Ray driver places anything; None if one does."""
    drives = Worker.device == DRIVER
    if session.scalars(select(Worker.id).where(lives(), drives, is_fit()).limit(1)).first() is not None:
        return None
    query = select(Worker.host, Worker.unfit_reason).where(lives(), drives).order_by(Worker.unfit_since).limit(1)
    found = session.execute(query).first()
    if found is None:
        return "no Ray driver runs: start one with `quantrank ray`"
    return f"the Ray driver on {found.host} can place nothing: {found.unfit_reason}"


def lives(worker: type[Worker] = Worker) -> ColumnElement[bool]:
    """The SQL condition that a worker, or a driver, has shown a sign of life within its lease."""
    return and_(worker.stopped_at.is_(None), worker.heartbeat_at + worker.lease_seconds >= database_now())


def note_missing(session: Session, worker_id: str, task: str, task_version: str, problem: str) -> None:
    """Has a worker given no evaluations of a task, until ``forget_missing``."""
    session.merge(MissingData(worker_id=worker_id, task=task, task_version=task_version, problem=problem))


def forget_missing(session: Session, worker_id: str, task: str, task_version: str) -> None:
    session.execute(
        delete(MissingData).where(
            MissingData.worker_id == worker_id, MissingData.task == task, MissingData.task_version == task_version
        )
    )


def lacks_data(worker_id: Any, of: type[Evaluation] | type[Search]) -> ColumnElement[bool]:
    """The SQL condition that a worker lacks the data of an evaluation or of a search."""
    return exists().where(
        MissingData.worker_id == worker_id, MissingData.task == of.task, MissingData.task_version == of.task_version
    )


def has_room(worker_id: Any) -> ColumnElement[bool]:
    """The SQL condition that a worker may take as much memory as an evaluation does, as far as both are known."""
    room = select(Worker.room_bytes).where(Worker.id == worker_id).scalar_subquery()
    return or_(Evaluation.memory_bytes.is_(None), room.is_(None), Evaluation.memory_bytes <= room)


def is_anothers_to_try(worker_id: Any) -> ColumnElement[bool]:
    """The SQL condition that an evaluation met an error on this worker, and another one that could train it runs."""
    other = aliased(Worker)
    lacking = (
        exists()
        .where(
            MissingData.worker_id == other.id,
            MissingData.task == Evaluation.task,
            MissingData.task_version == Evaluation.task_version,
        )
        .correlate(other, Evaluation)  # which is two selects further out: else it would be read from end to end
    )
    of_release = other.versions["numerics"].as_integer() == Evaluation.numerics_version
    fits = or_(
        other.room_bytes.is_(None), Evaluation.memory_bytes.is_(None), Evaluation.memory_bytes <= other.room_bytes
    )
    could = exists().where(
        other.id != worker_id, lives(other), is_fit(other), other.device != DRIVER, of_release, ~lacking, fits
    )
    return and_(Evaluation.suspected_by.is_not(None), Evaluation.suspected_by == worker_id, could)


def _least_memory(search: Search) -> ScalarSelect[int]:
    """The memory of the smallest evaluation that a search waits for; 0 if one's is not known, None without any."""
    return (
        select(func.min(func.coalesce(Evaluation.memory_bytes, 0)))
        .join(Proposal, Proposal.evaluation_id == Evaluation.id)
        .where(Proposal.search_id == search.id, Evaluation.status.in_(("queued", "running")))
        .scalar_subquery()
    )


def _why_no_room(session: Session, search: Search, able: ColumnElement[bool]) -> str | None:
    """What the workers that could train for a search lack in memory; None without any such worker."""
    query = select(Worker.host, Worker.room_bytes).where(able).order_by(Worker.room_bytes.desc(), Worker.id).limit(1)
    found = session.execute(query).first()
    if found is None:
        return None
    host, room = found
    takes = session.scalars(select(_least_memory(search))).one() or 0
    return (
        f"no worker has the memory: what is queued takes at least {takes / 1e9:.2f} GB, as estimated, and the most that"
        f" one may take is {(room or 0) / 1e9:.2f} GB, on {host}; start a worker with more, or fewer side by side"
    )


def waits_for(session: Session, search: Search) -> str | None:
    """Why no worker can train what a search wants; None if one can."""
    trains = lives() & is_fit() & (Worker.device != DRIVER)
    of_release = Worker.versions["numerics"].as_integer() == search.numerics_version
    lacking = exists().where(
        MissingData.worker_id == Worker.id,
        MissingData.task == search.task,
        MissingData.task_version == search.task_version,
    )
    able = trains & of_release & ~lacking
    roomy = or_(Worker.room_bytes.is_(None), Worker.room_bytes >= func.coalesce(_least_memory(search), 0))
    if session.scalars(select(Worker.id).where(able, roomy).limit(1)).first() is not None:
        return None
    if (no_room := _why_no_room(session, search, able)) is not None:
        return no_room
    told = (
        select(Worker.host, MissingData.problem)
        .join(MissingData, MissingData.worker_id == Worker.id)
        .where(trains, of_release, MissingData.task == search.task, MissingData.task_version == search.task_version)
        .order_by(Worker.started_at, Worker.id)
        .limit(1)
    )
    if found := session.execute(told).first():
        return f"no worker has its data; on {found.host}: {found.problem}"
    if session.scalars(select(Worker.id).where(trains).limit(1)).first() is not None:
        return f"no worker is of the release it was posted with (numerics version {search.numerics_version})"
    return _why_unfit(session, Worker.device != DRIVER) or NO_WORKER
