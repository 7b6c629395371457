"""Leases: a worker's time-limited, fenced right to one evaluation.

The database's clock decides when a lease ends. Every write on behalf of a lease goes through ``held``, which checks the
token under the evaluation's row lock in the same transaction: whoever lost the lease writes nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select, update

from qcore.stages import NUMERICS_VERSION
from searcher.database import database_now
from searcher.events import emit, lock_searches_that_want, searches_that_want
from searcher.searches import searches_of_evaluation, settle
from searcher.tables import Evaluation, Proposal, Search
from searcher.workers import lacks_data

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

MOST_ATTEMPTS = 3
"""Claims in a row without one new epoch after which an evaluation whose worker died again is given up as lost."""


@dataclass(frozen=True)
class Lease:
    evaluation_id: int
    token: str


class LeaseLost(Exception):  # noqa: N818  a state of affairs, not a fault
    """The lease ended and somebody else has the evaluation, or nobody wants it any more."""


def claim(session: Session, worker_id: str, seconds: float) -> Lease | None:
    """Takes one claimable evaluation that workers are to run and this one can train; None if there is none.

    One statement, so that two workers never take the same. The inner select is materialized: as a plain sub-select
    PostgreSQL may run it again for every row, and lock several.
    """
    return _take(session, select(Evaluation.id).where(_wanted_by("optuna")), worker_id, seconds)


def claim_evaluation(session: Session, evaluation_id: int, worker_id: str, seconds: float) -> Lease | None:
    """Takes this evaluation; None if it is not claimable (any more)."""
    return _take(session, select(Evaluation.id).where(Evaluation.id == evaluation_id), worker_id, seconds)


def claimable(session: Session, engine: str, limit: int) -> list[Evaluation]:
    """Evaluations that searches of an engine want and nobody has, as they were proposed.

    They are queued, or their lease has ended and they may be tried again.
    """
    query = select(Evaluation).where(_is_free(), _wanted_by(engine)).order_by(Evaluation.id).limit(limit)
    return list(session.scalars(query))


def count_claimable(session: Session, engine: str, most: int) -> int:
    """How many evaluations of an engine's searches nobody has, counted up to ``most``."""
    free = select(Evaluation.id).where(_is_free(), _wanted_by(engine)).limit(most).subquery()
    return session.scalars(select(func.count()).select_from(free)).one()


def _take(session: Session, wanted: Select[int], worker_id: str, seconds: float) -> Lease | None:
    first = (
        wanted.where(_is_free(), Evaluation.numerics_version == NUMERICS_VERSION, ~lacks_data(worker_id, Evaluation))
        .order_by(Evaluation.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=Evaluation)
        .cte("first")
        .prefix_with("MATERIALIZED")
    )
    token = secrets.token_hex(16)
    claimed = session.scalars(
        update(Evaluation)
        .where(Evaluation.id.in_(select(first.c.id)))
        .values(
            status="running",
            lease_token=token,
            lease_ends=database_now() + seconds,
            attempt=Evaluation.attempt + 1,
            fruitless_attempts=Evaluation.fruitless_attempts + 1,
            worker_id=worker_id,
        )
        .returning(Evaluation.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return None if claimed is None else Lease(claimed, token)


def _is_free() -> ColumnElement[bool]:
    ended = and_(Evaluation.is_abandoned(), Evaluation.fruitless_attempts < MOST_ATTEMPTS)
    return or_(Evaluation.status == "queued", ended)


def _wanted_by(engine: str) -> ColumnElement[bool]:
    """Whether a running search of that engine wants the evaluation."""
    return (
        select(Proposal.search_id)
        .join(Search, Search.id == Proposal.search_id)
        .where(Proposal.evaluation_id == Evaluation.id, Search.status == "running", Search.engine == engine)
        .exists()
    )


def renew(session: Session, lease: Lease, seconds: float) -> None:
    """Lets a lease that is still held end ``seconds`` from now.

    Raises:
        LeaseLost: when it is not held any more.
    """
    renewed = session.scalars(
        update(Evaluation)
        .where(Evaluation.id == lease.evaluation_id, Evaluation.lease_token == lease.token)
        .values(lease_ends=database_now() + seconds)
        .returning(Evaluation.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if renewed is None:
        raise LeaseLost(lease.evaluation_id)


def held(session: Session, lease: Lease) -> Evaluation:
    """The evaluation of a lease, its row locked until the transaction ends.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    evaluation = session.get(Evaluation, lease.evaluation_id, with_for_update=True, populate_existing=True)
    if evaluation is None or evaluation.lease_token != lease.token:
        raise LeaseLost(lease.evaluation_id)
    return evaluation


def held_with_searches(session: Session, lease: Lease) -> tuple[Evaluation, list[Search]]:
    """The evaluation of a lease, locked, and the running searches that want it.

    Whoever comes to want an evaluation that is not done locks it: until the transaction ends, these are all. Asked
    again in the same session, it answers the same.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    if lease not in session.info:
        session.info[lease] = held(session, lease), searches_that_want(session, [lease.evaluation_id])
    found: tuple[Evaluation, list[Search]] = session.info[lease]
    return found


def release(session: Session, lease: Lease) -> None:
    """Hands an unfinished evaluation back to the queue; the attempt does not count."""
    evaluation = held(session, lease)
    evaluation.status, evaluation.lease_token, evaluation.lease_ends = "queued", None, None
    evaluation.attempt -= 1
    evaluation.fruitless_attempts = max(0, evaluation.fruitless_attempts - 1)


def end_leases(session: Session, worker_id: str) -> None:
    """Ends what a worker holds that is known to have died: others take it over at once, and it could write no more."""
    held_by_it = and_(Evaluation.worker_id == worker_id, Evaluation.status == "running")
    session.execute(update(Evaluation).where(held_by_it).values(lease_token=None, lease_ends=database_now()))


def bury_lost(session: Session) -> None:
    """Gives up evaluations whose lease has ended as often as allowed, and settles the searches that wanted them."""
    ended = and_(Evaluation.is_abandoned(), Evaluation.fruitless_attempts >= MOST_ATTEMPTS)
    found = list(session.scalars(select(Evaluation.id).where(ended).order_by(Evaluation.id)))
    if not found:
        return
    wanting = lock_searches_that_want(session, found)  # of all of them first: locks are taken in one order
    for evaluation_id in found:
        own = searches_of_evaluation(session, evaluation_id)
        searches = [search for search in wanting if search.id in own]
        buried = session.scalars(
            update(Evaluation)
            .where(Evaluation.id == evaluation_id, ended)
            .values(
                status="lost",
                lease_token=None,
                ended_at=database_now(),
                error=f"its worker died {MOST_ATTEMPTS} times within an epoch; see the workers' logs (memory?)",
            )
            .returning(Evaluation.architecture)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if buried is not None:
            emit(session, searches, "evaluation_lost", evaluation=evaluation_id, architecture=buried)
            for search in searches:
                settle(session, search)
