"""Asking a search's engine for its next candidate. The engine thinks outside any transaction that writes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore import Architecture
from searcher.engines import Trial, load_engine
from searcher.events import lock_searches
from searcher.leaderboard import search_leaderboard
from searcher.progress import candidates_of
from searcher.searches import OPEN, evaluations_left, is_of_this_release, propose, settle, unproposed_candidates
from searcher.tables import Candidate, Evaluation, Proposal, Search

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from searcher.database import Database

log = logging.getLogger(__name__)


def propose_next(database: Database, engine: str = "optuna") -> bool:
    """Proposes one candidate for the engine's running search that has the fewest open ones; False if none wants more.

    Searches that turn out to have nothing open and nothing left are settled on the way.
    """
    with database.read() as session:
        waiting = _searches_by_need(session, engine)
    return any(_propose_for(database, search_id) for search_id in waiting)


def _searches_by_need(session: Session, engine: str) -> list[int]:
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
        .where(Search.status == "running", Search.engine == engine)
        .order_by(func.coalesce(open_proposals.c.open, 0), Search.id)
    )
    return list(session.scalars(query))


def _propose_for(database: Database, search_id: int) -> bool:
    while True:
        with database.read() as session:
            search = session.get_one(Search, search_id)
            if not is_of_this_release(search):
                log.debug("search %d is of another release: left to workers of that release", search_id)
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
