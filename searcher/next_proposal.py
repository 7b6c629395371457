"""Asking for the next evaluation of a search. Samplers think outside any transaction that writes."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore.stages import NUMERICS_VERSION
from searcher.events import lock_searches
from searcher.proposals import propose
from searcher.samplers import load_sampler
from searcher.searches import is_of_this_release, settle
from searcher.situation import OPEN, situation_of
from searcher.tables import Candidate, Evaluation, Proposal, Search
from searcher.workers import lacks_data, note_missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from qcore import Architecture
    from searcher.database import Database
    from searcher.planning import Wish
    from searcher.samplers import Trial

log = logging.getLogger(__name__)


def propose_next(database: Database, *, engine: str = "optuna", count: int = 1, worker_id: str = "") -> bool:
    """Proposes up to ``count`` evaluations for one running search of an engine; False if none wants more.

    Of those of the highest priority that do, it is the one with the fewest open evaluations. Searches over tasks that
    the worker which asks could not train are left to others.

    Searches that turn out to have nothing open and nothing left are settled on the way.
    """
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
    query = (
        select(Search.id)
        .outerjoin(open_proposals, open_proposals.c.search_id == Search.id)
        .where(Search.status == "running", Search.engine == engine, ~lacks_data(worker_id, Search))
        .order_by(Search.priority.desc(), func.coalesce(open_proposals.c.open, 0), Search.id)
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
            situation = situation_of(session, search)
        chosen = list(islice(situation.wishes(load_sampler(search.sampler)), count))
        with database.write() as session:
            locked = lock_searches(session, [search_id])
            if not locked or locked[0].status != "running":
                return False
            search = locked[0]
            # Asked again of what the tables say now, with nobody beside: others may have proposed meanwhile.
            situation = situation_of(session, search)
            if situation.next_wish() is None:
                if not _is_at_work(session, search):  # else the worker settles it, after it has told how that ended
                    settle(session, search)
                return False
            if _propose(session, search, islice(situation.wishes(_Chosen(chosen)), count)):
                return True


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


def _propose(session: Session, search: Search, wishes: Iterable[Wish]) -> int:
    """Stores what is wished for, up to where somebody else was faster; how many wishes that were."""
    count = 0
    with suppress(_Overtaken):
        for wish in wishes:
            named = select(Candidate).filter_by(search_id=search.id, architecture=wish.architecture.name)
            propose(session, search, session.scalars(named).one(), wish.rung, wish.seeds)
            count += 1
    return count


class _Overtaken(Exception):  # noqa: N818  a state of affairs, not a fault
    """Others have proposed what was chosen."""


class _Chosen:
    """Chooses what a sampler has chosen before, in its order."""

    def __init__(self, wishes: Sequence[Wish]) -> None:
        self._left = [wish.architecture for wish in wishes]

    def __call__(self, remaining: Sequence[Architecture], _trials: Sequence[Trial], _seed: int, /) -> Architecture:
        self._left = [each for each in self._left if each in remaining]
        if not self._left:
            raise _Overtaken
        return self._left[0]
