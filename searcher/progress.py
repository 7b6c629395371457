"""How far a search is: its candidates, their evaluations as this search sees them, and the epochs trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, exists, func, select

from searcher.planning import promoted
from searcher.proposals import stages_wanted_by
from searcher.situation import evaluations_left, recipes_of
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage
from searcher.workers import any_driver, waits_for

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Progress:
    """How far a search is. Epochs are those of every stage it wants, trained for it or before."""

    candidates: int
    proposed: int
    evaluations: dict[str, int]
    """Proposed evaluations by status."""
    epochs_done: int
    epochs_total: int
    waits_for: str | None = None
    """What has to be there before anything moves, and is not."""


def progress(session: Session, search: Search) -> Progress:
    proposals = select(Proposal).where(Proposal.search_id == search.id).subquery()
    candidates = session.scalars(select(func.count()).where(Candidate.search_id == search.id)).one()
    proposed = session.scalars(select(func.count(proposals.c.candidate_id.distinct()))).one()
    status = _status_for(search)
    by_status = session.execute(
        select(status, func.count()).join(proposals, proposals.c.evaluation_id == Evaluation.id).group_by(status)
    )
    evaluations: dict[str, int] = dict(by_status.all())
    epochs_done, epochs_proposed = session.execute(
        select(func.coalesce(func.sum(Stage.epochs_done), 0), func.coalesce(func.sum(Stage.epochs), 0))
        .join(proposals, proposals.c.evaluation_id == Stage.evaluation_id)
        .where(stages_wanted_by(search))
    ).one()
    epochs_to_come = sum(
        count * (recipe.float_part.epochs + bit_widths * recipe.retraining.epochs)
        for count, recipe, bit_widths in zip(
            _evaluations_to_come(session, search, candidates - proposed),
            recipes_of(search),
            [1] * len(search.rungs) + [len(search.bit_widths)],
            strict=True,
        )
    )
    waiting = None
    if search.status == "running":
        needs_driver = search.engine == "ray" and not any_driver(session)
        waiting = "no Ray driver runs: start one with `quantrank ray`" if needs_driver else waits_for(session, search)
    epochs_total = int(epochs_proposed) + epochs_to_come
    return Progress(candidates, proposed, evaluations, int(epochs_done), epochs_total, waiting)


def _evaluations_to_come(session: Session, search: Search, unproposed: int) -> list[int]:
    """How many evaluations are still to be proposed at each rung, the full recipe last, if nothing ends it before.

    Further seeds are left out: nobody knows how many it will take.
    """
    at_rung = (
        select(Proposal.rung, func.count(Proposal.candidate_id.distinct()))
        .where(Proposal.search_id == search.id)
        .group_by(Proposal.rung)
    )
    proposed: dict[int, int] = dict(session.execute(at_rung).all())
    to_come, population = [], proposed.get(0, 0) + unproposed
    for rung in range(len(search.rungs) + 1):
        seeds = len(search.seeds) if rung == len(search.rungs) else 1
        to_come.append(seeds * max(0, population - proposed.get(rung, 0)))
        population = promoted(search.promoted_share, population)
    left = evaluations_left(session, search)
    if left is not None:
        for rung in reversed(range(len(to_come))):
            to_come[rung] = min(to_come[rung], left)
            left -= to_come[rung]
    return to_come


@dataclass(frozen=True)
class Proposed:
    """An evaluation as the search that it was proposed for sees it."""

    evaluation: int
    """Its id."""
    seed: int
    attempt: int
    error: str | None
    status: str
    """Done once every stage the search wants has ended, whatever others want."""
    rung: int | None
    """Position among the search's rungs; None for the full recipe."""


def candidates_of(
    session: Session, search: Search, limit: int | None = None, after_id: int = 0
) -> list[tuple[Candidate, list[Proposed]]]:
    """Candidates, in the order they were enumerated, with their evaluations, by rung and seed.

    All of them, or so many that come after the one of that id.
    """
    query = select(Candidate).where(Candidate.search_id == search.id, Candidate.id > after_id)
    found: dict[int, tuple[Candidate, list[Proposed]]] = {
        candidate.id: (candidate, []) for candidate in session.scalars(query.order_by(Candidate.id).limit(limit))
    }
    linked = (
        select(
            *(Proposal.candidate_id, Proposal.rung, Evaluation.id, Evaluation.seed, Evaluation.attempt),
            *(Evaluation.error, _status_for(search)),
        )
        .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .where(Proposal.search_id == search.id, Proposal.candidate_id.between(*_bounds(found)))
        .order_by(Proposal.rung, Evaluation.seed)
    )
    for candidate_id, rung, evaluation, seed, attempt, error, status in session.execute(linked):
        short = rung if rung < len(search.rungs) else None
        found[candidate_id][1].append(Proposed(evaluation, seed, attempt, error, status, short))
    return list(found.values())


def _bounds(ids: Collection[int]) -> tuple[int, int]:
    """The least and the greatest, or of none two that nothing lies between."""
    return min(ids, default=1), max(ids, default=0)


def _status_for(search: Search) -> ColumnElement[str]:
    waits = exists().where(Stage.evaluation_id == Evaluation.id, Stage.status == "pending", stages_wanted_by(search))
    return case((waits, Evaluation.status), else_="done")
