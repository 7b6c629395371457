"""Asking for the next evaluation of a search. Samplers think outside any transaction that writes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from searcher.events import lock_searches
from searcher.proposals import propose
from searcher.samplers import load_sampler
from searcher.searches import is_of_this_release, settle
from searcher.situation import OPEN, candidates_by_architecture, situation_of
from searcher.tables import Candidate, Evaluation, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from qcore import Architecture
    from searcher.database import Database
    from searcher.planning import Wish
    from searcher.samplers import Trial

log = logging.getLogger(__name__)


def propose_next(database: Database) -> bool:
    """Proposes one evaluation for the running search that has the fewest open ones, of those of the highest priority
    that want more; False if no search does.

    Searches that turn out to have nothing open and nothing left are settled on the way.
    """
    with database.read() as session:
        waiting = _searches_by_need(session)
    return any(_propose_for(database, search_id) for search_id in waiting)


def _searches_by_need(session: Session) -> list[int]:
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
        .where(Search.status == "running")
        .order_by(Search.priority.desc(), func.coalesce(open_proposals.c.open, 0), Search.id)
    )
    return list(session.scalars(query))


class _Overtaken(Exception):  # noqa: N818  a state of affairs, not a fault
    """Another worker has proposed the candidate that was chosen."""


def _propose_for(database: Database, search_id: int) -> bool:
    while True:
        with database.read() as session:
            search = session.get_one(Search, search_id)
            if not is_of_this_release(search):
                log.debug("search %d is of another release: left to workers of that release", search_id)
                return False
            situation = situation_of(session, search)
        wish = situation.next_wish(load_sampler(search.sampler))

        def as_chosen(
            remaining: Sequence[Architecture], _trials: Sequence[Trial], _seed: int, wish: Wish | None = wish
        ) -> Architecture:
            if wish is None or wish.architecture not in remaining:
                raise _Overtaken
            return wish.architecture

        try:
            with database.write() as session:
                search = lock_searches(session, [search_id])[0]
                if search.status != "running":
                    return False
                # Asked again of what the tables say now, with nobody beside: others may have proposed meanwhile.
                wish = situation_of(session, search).next_wish(as_chosen)
                if wish is None:
                    settle(session, search)
                    return False
                candidate = session.get_one(Candidate, candidates_by_architecture(session, search)[wish.architecture])
                propose(session, search, candidate, wish.rung, wish.seeds)
                return True
        except _Overtaken:
            continue
