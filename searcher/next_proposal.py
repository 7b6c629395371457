"""Asking for the next evaluation of a search. Samplers think outside any transaction that writes."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore.stages import NUMERICS_VERSION
from searcher.events import latest_event, lock_searches
from searcher.leases import count_claimable
from searcher.proposals import ToPropose, propose_all
from searcher.samplers import load_sampler
from searcher.searches import is_of_this_release, settle
from searcher.serving_order import searches_in_order, searches_to_ask
from searcher.situation import situation_of
from searcher.tables import Candidate, Evaluation, Proposal, Search
from searcher.workers import note_missing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.orm import Session

    from searcher.database import Database
    from searcher.planning import Wish
    from searcher.serving_order import Asked, Placed

log = logging.getLogger(__name__)

_TURN = {"optuna": 1, "ray": 2}


def propose_next(
    database: Database,
    *,
    engine: str = "optuna",
    count: int = 1,
    worker_id: str = "",
    asked: Asked | None = None,
    placed: Collection[Placed] = (),
) -> bool:
    """Proposes up to ``count`` evaluations for one running search of an engine; False if none wants more.

    It is the first that does, in the order of ``serving_order``, where what is queued counts as running. Searches over
    tasks that the worker which asks could not train are left to others.

    Searches that turn out to have nothing open and nothing left are settled on the way.

    One asks at a time: who comes while another asks gets False, and finds in a moment what the other has proposed.

    Args:
        asked: if given, only searches that come before everything that is queued are asked, and none of those again
            that had nothing to propose; what they say is noted in it.
        placed: what somebody is about to claim, and so is not queued any more.
    """
    with database.turn(_TURN[engine]) as mine:
        if not mine and asked is None:
            return False
        with database.read() as session:
            if not mine and count_claimable(session, engine, 1) == 0:
                return False
            if asked is None:
                waiting = searches_in_order(session, engine, worker_id)
            else:
                waiting = searches_to_ask(session, engine, worker_id, asked, placed)
        if mine:
            return any(_propose_for(database, search_id, count, worker_id, asked) for search_id in waiting)
    # To find that they have nothing to propose takes no turn: then what is queued need not wait for who has it.
    all(_has_nothing(database, search_id, asked) for search_id in waiting)
    return False


def _propose_for(database: Database, search_id: int, count: int, worker_id: str, asked: Asked | None) -> bool:
    while True:
        with database.read() as session:
            search = session.get(Search, search_id)
            if search is None:  # deleted meanwhile
                return False
            known = latest_event(session, search_id)
            if not is_of_this_release(search):
                _leave_to_others(database, search, worker_id)
                _note_asked(asked, search_id, known)
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
                _note_asked(asked, search_id, known)
                return False
            if _what_decides(session, search) == seen:
                propose_all(session, search, _proposed(session, search, wishes))
                return True


def _has_nothing(database: Database, search_id: int, asked: Asked | None) -> bool:
    """Whether a search has nothing to propose, which is noted."""
    with database.read() as session:
        search = session.get(Search, search_id)
        if search is None:
            return True
        known = latest_event(session, search_id)
        if is_of_this_release(search) and situation_of(session, search).next_wish() is not None:
            return False
    _note_asked(asked, search_id, known)
    return True


def _note_asked(asked: Asked | None, search_id: int, event_id: int) -> None:
    if asked is not None:
        asked[search_id] = event_id


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
