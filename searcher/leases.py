"""Leases: a worker's time-limited, fenced right to one evaluation.

The database's clock decides when a lease ends. Every write on behalf of a lease goes through ``held``, which checks the
token under the evaluation's row lock in the same transaction: whoever lost the lease writes nothing.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, Integer, String, and_, bindparam, case, func, select, update

from searcher.database import database_now
from searcher.events import emit, lock_searches_that_want, searches_that_want
from searcher.searches import searches_of_evaluation, settle
from searcher.serving_order import MOST_ATTEMPTS, in_order, in_words, is_for, is_free, note_served, queue
from searcher.statements import ask
from searcher.tables import Evaluation, Search

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sqlalchemy import BindParameter, ColumnElement, Select
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.dml import ReturningUpdate

    from searcher.serving_order import Placed

_CLAIMER: BindParameter[str] = bindparam("claimer", type_=String)


@dataclass(frozen=True)
class Lease:
    evaluation_id: int
    token: str


class LeaseLost(Exception):  # noqa: N818  a state of affairs, not a fault
    """The lease ended and somebody else has the evaluation, or nobody wants it any more."""


def claim(session: Session, worker_id: str, seconds: float, asked: Mapping[int, int] | None = None) -> Lease | None:
    """Takes the first claimable evaluation that workers are to run and this one can train; None if there is none.

    Which is the first, ``serving_order`` says. None as well, if ``asked`` is given, while a search that comes before it
    may have something to propose: see ``propose_next``.

    One statement, so that two workers never take the same. What it selects is materialized: as a plain sub-select
    PostgreSQL may run it again for every row, and lock several.
    """
    if asked is None:
        return _take(session, worker_id, seconds, _claiming)
    return _take(session, worker_id, seconds, _claiming_after, asked=in_words(asked))


def claim_evaluation(session: Session, evaluation_id: int, worker_id: str, seconds: float) -> Lease | None:
    """Takes this evaluation; None if it is not claimable (any more)."""
    return _take(session, worker_id, seconds, _claiming_one, wanted=evaluation_id)


def is_claimable(session: Session, evaluation_id: int) -> bool:
    """Whether an evaluation waits for somebody to take it."""
    return session.scalars(select(Evaluation.id).where(Evaluation.id == evaluation_id, is_free())).first() is not None


def claimable(
    session: Session,
    engine: str,
    limit: int,
    placed: Collection[Placed] = (),
    asked: Mapping[int, int] | None = None,
) -> list[Evaluation]:
    """Evaluations that searches of an engine want and nobody has, in the order in which they are to be claimed.

    They are queued, or their lease has ended and they may be tried again.

    Args:
        placed: those that somebody is about to claim: they are left out, and count as running.
        asked: as for ``claim``.
    """
    query = in_order(select(Evaluation), engine, placed=placed, asked=None if asked is None else in_words(asked))
    found: dict[int, Evaluation] = {}
    for evaluation in session.scalars(query):  # one that several searches want comes for each
        found.setdefault(evaluation.id, evaluation)
        if len(found) == limit:
            break
    return list(found.values())


def count_claimable(session: Session, engine: str, most: int) -> int:
    """How many evaluations of an engine's searches nobody has, counted up to ``most``."""
    counted: int = ask(session, _counting, engine, most=most).scalar_one()
    return counted


def _counting(engine: str) -> Select[int]:
    waiting = select(queue(engine).c.evaluation_id).distinct().limit(bindparam("most", type_=Integer)).subquery()
    return select(func.count()).select_from(waiting)


def _claiming() -> ReturningUpdate[int]:
    return _taking(in_order(select(Evaluation.id), "optuna", _CLAIMER))


def _claiming_after() -> ReturningUpdate[int]:
    return _taking(in_order(select(Evaluation.id), "optuna", _CLAIMER, asked=bindparam("asked", type_=String)))


def _claiming_one() -> ReturningUpdate[int]:
    return _taking(select(Evaluation.id).where(Evaluation.id == bindparam("wanted"), is_free(), is_for(_CLAIMER)))


def _taking(wanted: Select[int]) -> ReturningUpdate[int]:
    first = wanted.limit(1).with_for_update(skip_locked=True, of=Evaluation).cte("first").prefix_with("MATERIALIZED")
    return (
        update(Evaluation)
        .where(Evaluation.id.in_(select(first.c.id)))
        .values(
            status="running",
            lease_token=bindparam("token"),
            lease_ends=database_now() + bindparam("seconds", type_=Double),
            attempt=Evaluation.attempt + 1,
            fruitless_attempts=Evaluation.fruitless_attempts + 1,
            worker_id=_CLAIMER,
        )
        .returning(Evaluation.id)
        .execution_options(synchronize_session=False)
    )


def _take(
    session: Session, worker_id: str, seconds: float, taking: Callable[[], ReturningUpdate[int]], **values: Any
) -> Lease | None:
    token = secrets.token_hex(16)
    claimed = ask(session, taking, claimer=worker_id, token=token, seconds=seconds, **values).scalar_one_or_none()
    if claimed is None:
        return None
    note_served(session, claimed)
    return Lease(claimed, token)


def _is_lost() -> ColumnElement[bool]:
    return and_(Evaluation.is_abandoned(), Evaluation.fruitless_attempts >= MOST_ATTEMPTS)


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


def suspect(session: Session, lease: Lease, worker_id: str) -> bool:
    """Hands back an evaluation that met an error that nobody knows, for another worker to try; False the second time.

    Raises:
        LeaseLost: when the lease is not held any more.
    """
    evaluation = held(session, lease)
    if evaluation.suspected_by is not None:
        return False
    evaluation.suspected_by = worker_id
    release(session, lease)
    return True


def release_all(session: Session, worker_id: str) -> None:
    """Hands back whatever a worker holds that was asked to stop; attempts do not count, and it can write no more."""
    held_by_it = (
        Evaluation.worker_id == worker_id,
        Evaluation.status == "running",
        Evaluation.lease_token.is_not(None),
    )
    fruitless = Evaluation.fruitless_attempts
    session.execute(
        update(Evaluation)
        .where(*held_by_it)
        .values(
            status="queued",
            lease_token=None,
            lease_ends=None,
            attempt=Evaluation.attempt - 1,
            fruitless_attempts=case((fruitless > 0, fruitless - 1), else_=0),
        )
        .execution_options(synchronize_session=False)
    )


def end_leases(session: Session, worker_id: str) -> None:
    """Ends what a worker holds that is known to have died: others take it over at once, and it could write no more."""
    held_by_it = and_(Evaluation.worker_id == worker_id, Evaluation.status == "running")
    session.execute(update(Evaluation).where(held_by_it).values(lease_token=None, lease_ends=database_now()))


def to_bury(session: Session) -> list[int]:
    """Ids of the evaluations that ``bury_lost`` would give up."""
    return list(session.scalars(select(Evaluation.id).where(_is_lost()).order_by(Evaluation.id)))


def bury_lost(session: Session) -> None:
    """Gives up evaluations whose lease has ended as often as allowed, and settles the searches that wanted them."""
    found = to_bury(session)
    if not found:
        return
    wanting = lock_searches_that_want(session, found)  # of all of them first: locks are taken in one order
    for evaluation_id in found:
        own = searches_of_evaluation(session, evaluation_id)
        searches = [search for search in wanting if search.id in own]
        buried = session.scalars(
            update(Evaluation)
            .where(Evaluation.id == evaluation_id, _is_lost())
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
