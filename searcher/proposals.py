"""Asking a search's engine for its next candidate. The engine thinks outside any transaction that writes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore import Architecture
from qcore.stages import NUMERICS_VERSION
from searcher.engines import Trial, load_engine
from searcher.events import lock_searches
from searcher.leaderboard import search_leaderboard
from searcher.progress import candidates_of
from searcher.searches import OPEN, evaluations_left, is_of_this_release, propose, settle, unproposed_candidates
from searcher.tables import Candidate, Evaluation, Proposal, Search
from searcher.workers import lacks_data, note_missing

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from searcher.database import Database

log = logging.getLogger(__name__)


def propose_next(database: Database, worker_id: str = "") -> bool:
    """Proposes one candidate for the running search that has the fewest open ones; False if no search wants more.

    Searches over tasks that the worker which asks could not train are left to others.
    Searches that turn out to have nothing open and nothing left are settled on the way.
    """
    with database.read() as session:
        waiting = _searches_by_need(session, worker_id)
    return any(_propose_for(database, search_id, worker_id) for search_id in waiting)


def _searches_by_need(session: Session, worker_id: str) -> list[int]:
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
        .where(Search.status == "running", ~lacks_data(worker_id, Search))
        .order_by(func.coalesce(open_proposals.c.open, 0), Search.id)
    )
    return list(session.scalars(query))


def _propose_for(database: Database, search_id: int, worker_id: str) -> bool:
    while True:
        with database.read() as session:
            search = session.get_one(Search, search_id)
            if not is_of_this_release(search):
                _leave_to_others(database, search, worker_id)
                return False
            remaining = [_architecture(each) for each in unproposed_candidates(session, search)]
            if evaluations_left(session, search) == 0:
                remaining = []
            trials = _trials(session, search) if remaining else []
        chosen = load_engine(search.engine).choose(remaining, trials, search.seeds[0]) if remaining else None
        with database.write() as session:
            search = lock_searches(session, [search_id])[0]
            if search.status != "running":
                return False
            left = unproposed_candidates(session, search)
            if chosen is None or not left or evaluations_left(session, search) == 0:
                settle(session, search)
                return False
            candidate = next((each for each in left if each.architecture == chosen.name), None)
            if candidate is not None:  # else another worker proposed it meanwhile: ask again, knowing that
                propose(session, search, candidate)
                return True


def _leave_to_others(database: Database, search: Search, worker_id: str) -> None:
    log.debug("search %d is of another release: left to workers of that release", search.id)
    if worker_id and search.numerics_version == NUMERICS_VERSION:  # so its task is of another version
        problem = f"task: {search.task!r} version {search.task_version} is not what this release trains"
        problem += "; run the same release of quantrank on the server and on every worker"
        with database.write() as session:
            note_missing(session, worker_id, search.task, search.task_version, problem)
        log.warning("search %d is left to other workers: %s", search.id, problem)


def _trials(session: Session, search: Search) -> list[Trial]:
    accuracy = {entry.architecture: entry.ranking_accuracy for entry in search_leaderboard(session, search)}
    trials = []
    for candidate, evaluations in candidates_of(session, search):
        if evaluations:
            is_open = any(status in OPEN for _, status in evaluations)
            trials.append(Trial(_architecture(candidate), accuracy.get(candidate.architecture), is_open))
    return trials


def _architecture(candidate: Candidate) -> Architecture:
    return Architecture.parse(candidate.architecture)
