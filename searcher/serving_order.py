"""The order in which searches are served: by claims, by what Ray places, and by proposals alike.

Of the running searches with work, the one of the highest priority comes first; of equal ones the one with the fewest
running evaluations; of those the one that waited longest: since one of its evaluations was last claimed, or else since
it was posted. A search's own evaluations come as they were proposed. An evaluation that several searches want comes
when the first of them does, runs for all of them, and its claim serves them all.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import aliased

from qcore.stages import NUMERICS_VERSION
from searcher.database import database_now
from searcher.situation import OPEN
from searcher.statements import ask
from searcher.tables import Candidate, Evaluation, Event, Proposal, Search, Stage
from searcher.workers import has_room, is_anothers_to_try, lacks_data

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import CTE, ColumnElement, Select, Update
    from sqlalchemy.orm import Session

MOST_ATTEMPTS = 3
"""Claims in a row without one new epoch after which an evaluation whose worker died again is given up as lost."""
_SERVED_APART_SECONDS = 1e-6
"""At least, between two claims, which a clock of milliseconds may give one time."""

Asked = dict[int, int]
"""Searches that had nothing to propose, by the latest event that each had then: only another changes that."""
Placed = tuple[int, int]
"""An evaluation's id and its attempts, when it was given to somebody who has yet to claim it."""
ForWorker: TypeAlias = "str | BindParameter[str]"
HasAsked: TypeAlias = "str | BindParameter[str]"
"""``Asked`` as ``in_words`` writes it, or a parameter that this is given for."""


def in_words(asked: Mapping[int, int]) -> str:
    """Searches and their events as statements read them, which are the same then however many there are.

    >>> in_words({7: 1, 12: 30})
    ' 7:1 12:30 '
    """
    return " ".join(["", *(f"{search_id}:{event_id}" for search_id, event_id in asked.items()), ""])


def is_free() -> ColumnElement[bool]:
    """The SQL condition that nobody has an evaluation: it is queued, or its lease ended and it may be tried again."""
    ended = and_(Evaluation.is_abandoned(), Evaluation.fruitless_attempts < MOST_ATTEMPTS)
    return or_(Evaluation.status == "queued", ended)


def is_for(worker_id: ForWorker) -> ColumnElement[bool]:
    """The SQL condition that a worker of this release can train an evaluation, and no other is to try it first."""
    lacks, is_anothers = lacks_data(worker_id, Evaluation), is_anothers_to_try(worker_id)
    return and_(Evaluation.numerics_version == NUMERICS_VERSION, has_room(worker_id), ~lacks, ~is_anothers)


def queue(engine: str, worker_id: ForWorker | None = None, placed: Collection[Placed] = ()) -> CTE:
    """Free evaluations that a search of an engine has proposed, each with every running search that has.

    Columns ``evaluation_id``, ``search_id``, and ``wanted``: whether a stage that this search asked for is pending.

    Args:
        worker_id: leaves out what this worker, or this release, cannot train, or another worker is to try.
        placed: leaves these out too.
    """
    query = select(Evaluation.id).where(is_free())
    if worker_id is not None:
        query = query.where(is_for(worker_id))
    if placed:
        query = query.where(tuple_(Evaluation.id, Evaluation.attempt).not_in(placed))
    # First, by their status: a planner may also begin with all that a running search has ever proposed.
    free = query.cte("free").prefix_with("MATERIALIZED")
    return (
        select(Proposal.evaluation_id, Proposal.search_id, _is_wanted().label("wanted"))
        .join(free, free.c.id == Proposal.evaluation_id)
        .join(Search, Search.id == Proposal.search_id)
        .where(Search.status == "running", or_(Search.engine == engine, _is_shared_with(engine)))
        .cte("queue")
        .prefix_with("MATERIALIZED")
    )


def places(counts_as_running: ColumnElement[bool]) -> CTE:
    """The running searches with their place in the order, from 1 on; columns ``search_id`` and ``place``."""
    counted = select(Evaluation.id).where(counts_as_running).cte("counted").prefix_with("MATERIALIZED")
    running = (
        select(Proposal.search_id, func.count().label("count"))
        .join(counted, counted.c.id == Proposal.evaluation_id)
        .join(Search, Search.id == Proposal.search_id)
        .where(Search.status == "running", _is_wanted())
        .group_by(Proposal.search_id)
        .subquery()
    )
    order = (Search.priority.desc(), func.coalesce(running.c.count, 0), _waits_since(), Search.id)
    return (
        select(Search.id.label("search_id"), func.row_number().over(order_by=order).label("place"))
        .outerjoin(running, running.c.search_id == Search.id)
        .where(Search.status == "running")
        .cte("places")
        .prefix_with("MATERIALIZED")
    )


def is_running(placed: Collection[Placed] = ()) -> ColumnElement[bool]:
    """The SQL condition that a worker has an evaluation, or is about to."""
    if not placed:
        return Evaluation.is_held()
    return or_(Evaluation.is_held(), Evaluation.id.in_([evaluation_id for evaluation_id, _ in placed]))


def in_order(
    query: Select[Any],
    engine: str,
    worker_id: ForWorker | None = None,
    placed: Collection[Placed] = (),
    asked: HasAsked | None = None,
) -> Select[Any]:
    """A query of evaluations, of those of ``queue``, the first one first; one that several want comes for each.

    Those whose searches have all they wanted come last: they only have to be ended.

    Args:
        placed: count as running.
        asked: if given, only those that come before every search that has nothing queued and may have something to
            propose.
    """
    queued, placed_at = queue(engine, worker_id, placed), places(is_running(placed))
    query = (
        query.join(queued, queued.c.evaluation_id == Evaluation.id)
        .join(placed_at, placed_at.c.search_id == queued.c.search_id)
        .where(is_free())  # again: a row that is locked may have become another's since the queue was read
        .order_by(case((queued.c.wanted, 0), else_=1), placed_at.c.place, Evaluation.id)
    )
    if asked is None:
        return query
    first_to_ask = (
        select(func.min(placed_at.c.place))
        .join(Search, Search.id == placed_at.c.search_id)
        .where(*_may_propose(engine, queued, "" if worker_id is None else worker_id, asked))
        .scalar_subquery()
    )
    return query.where(placed_at.c.place < func.coalesce(first_to_ask, placed_at.c.place + 1))


def searches_to_ask(
    session: Session, engine: str, worker_id: str, asked: Mapping[int, int], placed: Collection[Placed] = ()
) -> list[int]:
    """Ids of those that come before everything that is queued and may have something to propose, in their order."""
    values = {"asker": worker_id, "asked": in_words(asked)}
    return list(session.scalars(_asking(engine, tuple(placed)), values))


@lru_cache(maxsize=16)
def _asking(engine: str, placed: tuple[Placed, ...]) -> Select[int]:
    """Made once, as long as the same are placed: that takes longer than to execute it."""
    worker_id: BindParameter[str] = bindparam("asker", type_=String)
    asked: BindParameter[str] = bindparam("asked", type_=String)
    queued, placed_at = queue(engine, worker_id, placed), places(is_running(placed))
    first_queued = (
        select(func.min(placed_at.c.place))
        .join(queued, queued.c.search_id == placed_at.c.search_id)
        .where(queued.c.wanted)
        .scalar_subquery()
    )
    return (
        select(Search.id)
        .join(placed_at, placed_at.c.search_id == Search.id)
        .where(*_may_propose(engine, queued, worker_id, asked))
        .where(or_(first_queued.is_(None), placed_at.c.place < first_queued))
        .order_by(placed_at.c.place)
    )


def searches_in_order(session: Session, engine: str, worker_id: str) -> list[int]:
    """Ids of an engine's running searches in the order in which they are proposed for: what is queued counts too."""
    return list(ask(session, _ordering, engine, asker=worker_id).scalars())


def _ordering(engine: str) -> Select[int]:
    placed_at = places(Evaluation.status.in_(OPEN))
    return (
        select(Search.id)
        .join(placed_at, placed_at.c.search_id == Search.id)
        .where(Search.engine == engine, ~lacks_data(bindparam("asker", type_=String), Search))
        .order_by(placed_at.c.place)
    )


def note_served(session: Session, evaluation_id: int) -> None:
    """Says that the searches which want an evaluation were served just now.

    A candidate of theirs that another claim is writing this to at the same moment is left to it: nobody waits.
    """
    ask(session, _noting_served, claimed=evaluation_id)


def _noting_served() -> Update:
    latest = select(func.max(_waits_since())).where(Search.status == "running").scalar_subquery()
    served = (
        select(Candidate.id)
        .join(Proposal, Proposal.candidate_id == Candidate.id)
        .join(Search, Search.id == Proposal.search_id)
        .where(Proposal.evaluation_id == bindparam("claimed"), Search.status == "running", _is_wanted())
        .order_by(Candidate.id)
        .with_for_update(skip_locked=True, key_share=True, of=Candidate)
        .cte("served")
        .prefix_with("MATERIALIZED")
    )
    return (
        update(Candidate)
        .where(Candidate.id.in_(select(served.c.id)))
        .values(served_at=case((database_now() > latest, database_now()), else_=latest + _SERVED_APART_SECONDS))
        .execution_options(synchronize_session=False)
    )


def _may_propose(engine: str, queued: CTE, worker_id: ForWorker, asked: HasAsked) -> tuple[ColumnElement[bool], ...]:
    of_search = select(func.max(Event.id)).where(Event.search_id == Search.id).scalar_subquery()
    latest_event = func.coalesce(of_search, 0)  # as ``events.latest_event`` says
    pair = literal(" ") + cast(Search.id, String) + ":" + cast(latest_event, String) + " "
    known = literal(asked, String) if isinstance(asked, str) else asked
    return (
        Search.engine == engine,
        Search.numerics_version == NUMERICS_VERSION,
        ~lacks_data(worker_id, Search),
        Search.id.not_in(select(queued.c.search_id).where(queued.c.wanted)),
        ~known.contains(pair),
    )


def _waits_since() -> ColumnElement[float]:
    served = select(func.max(Candidate.served_at)).where(Candidate.search_id == Search.id).scalar_subquery()
    return func.coalesce(served, Search.created_at)


def _is_wanted() -> ColumnElement[bool]:
    """Whether a stage that the search of a proposal asked for is pending, as ``proposals.wants`` says of one stage."""
    retraining, bit_widths = Stage.retraining_recipe_hash, cast(Search.bit_widths, Text)
    return exists().where(
        Stage.evaluation_id == Proposal.evaluation_id,
        Stage.status == "pending",
        bit_widths.contains(literal('"') + Stage.bit_widths + '"'),
        or_(retraining == Search.retraining_recipe_hash, cast(Search.rungs, Text) != "[]"),
    )


def _is_shared_with(engine: str) -> ColumnElement[bool]:
    other, theirs = aliased(Search), aliased(Proposal)
    return exists().where(
        theirs.evaluation_id == Proposal.evaluation_id,
        other.id == theirs.search_id,
        other.status == "running",
        other.engine == engine,
    )
