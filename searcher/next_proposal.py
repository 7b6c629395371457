"""Asking for the next evaluation of a search. Samplers think outside any transaction that writes."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore.stages import NUMERICS_VERSION
from searcher.events import lock_searches
from searcher.proposals import ToPropose, propose_all
from searcher.samplers import load_sampler
from searcher.searches import is_of_this_release, settle
from searcher.situation import OPEN, situation_of
from searcher.tables import Candidate, Evaluation, Event, Proposal, Search
from searcher.workers import lacks_data, note_missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from searcher.database import Database
    from searcher.planning import Wish

log = logging.getLogger(__name__)

_TURN = {"optuna": 1, "ray": 2}


def propose_next(database: Database, *, engine: str = "optuna", count: int = 1, worker_id: str = "") -> bool:
    """Proposes up to ``count`` evaluations for one running search of an engine; False if none wants more.

    Of those of the highest priority that do, it is the one with the fewest open evaluations; of several, that which was
    served longest ago. Searches over tasks that the worker which asks could not train are left to others.

    Searches that turn out to have nothing open and nothing left are settled on the way.

    One asks at a time: who comes while another asks gets False, and finds in a moment what the other has proposed.
    """
    with database.turn(_TURN[engine]) as mine:
        if not mine:
            return False
        with database.read() as session:
            waiting = _searches_by_need(session, engine, worker_id)
        return any(_propose_for(database, search_id, count, worker_id) for search_id in waiting)


def _searches_by_need(session: Session, engine: str, worker_id: str) -> list[int]:
    open_proposals = (
        select(Proposal.search_id, func.count().label("open"))
        .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .where(Evaluation.status.in_(OPEN))
        .group_by(Proposal.search_id)
        .subquery()
    )
    served_last = (
        select(Event.id)
        .where(Event.search_id == Search.id, Event.kind == "candidate_proposed")
        .order_by(Event.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(Search.id)
        .outerjoin(open_proposals, open_proposals.c.search_id == Search.id)
        .where(Search.status == "running", Search.engine == engine, ~lacks_data(worker_id, Search))
        .order_by(
            Search.priority.desc(),
            func.coalesce(open_proposals.c.open, 0),
            func.coalesce(served_last, 0),  # a single worker leaves nothing open: then they take turns
            Search.id,
        )
    )
    return list(session.scalars(query))


def _propose_for(database: Database, search_id: int, count: int, worker_id: str) -> bool:
    while True:
        with database.read() as session:
            search = session.get(Search, search_id)
            if search is None:  # deleted meanwhile
                return False
            if not is_of_this_release(search):
                _leave_to_others(database, search, worker_id)
                return False
            seen = _what_decides(session, search)
            situation = situation_of(session, search)
        wishes = list(islice(situation.wishes(load_sampler(search.sampler)), count))
        with database.write() as session:
            locked = lock_searches(session, [search_id])
            if not locked or locked[0].status != "running":
                return False
            search = locked[0]
            if not wishes:
                # Asked again of what the tables say now: an evaluation may have ended meanwhile.
                if situation_of(session, search).next_wish() is not None:
                    continue
                if not _is_at_work(session, search):  # else the worker settles it, after it has told how that ended
                    settle(session, search)
                return False
            if _what_decides(session, search) == seen:
                propose_all(session, search, _proposed(session, search, wishes))
                return True


def _what_decides(session: Session, search: Search) -> tuple[object, ...]:
    """What has to be as it was for wishes to be good still: nobody has proposed meanwhile, and the limit is the same.

    Results that came meanwhile only make them less well informed than they could be.
    """
    proposals = session.scalars(select(func.count()).where(Proposal.search_id == search.id)).one()
    return proposals, search.max_evaluations


def _is_at_work(session: Session, search: Search) -> bool:
    """Whether a worker holds an evaluation of a search."""
    query = (
        select(Evaluation.id)
        .join(Proposal, Proposal.evaluation_id == Evaluation.id)
        .where(Proposal.search_id == search.id, Evaluation.is_held())
        .limit(1)
    )
    return session.scalars(query).first() is not None


def _leave_to_others(database: Database, search: Search, worker_id: str) -> None:
    log.debug("search %d is of another release: left to workers of that release", search.id)
    if worker_id and search.numerics_version == NUMERICS_VERSION:  # so its task is of another version
        problem = f"task: {search.task!r} version {search.task_version} is not what this release trains"
        problem += "; run the same release of quantrank on the server and on every worker"
        with database.write() as session:
            note_missing(session, worker_id, search.task, search.task_version, problem)
        log.warning("search %d is left to other workers: %s", search.id, problem)


def _proposed(session: Session, search: Search, wishes: Sequence[Wish]) -> list[ToPropose]:
    names = [wish.architecture.name for wish in wishes]
    query = select(Candidate).where(Candidate.search_id == search.id, Candidate.architecture.in_(names))
    by_name = {candidate.architecture: candidate for candidate in session.scalars(query)}
    return [ToPropose(by_name[wish.architecture.name], wish.rung, wish.seeds) for wish in wishes]
