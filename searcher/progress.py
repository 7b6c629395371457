"""How far a search is: its candidates, their evaluations as this search sees them, and the epochs trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, exists, func, select

from searcher.searches import evaluations_left, search_recipe, stages_wanted_by
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage
from searcher.workers import waits_for

if TYPE_CHECKING:
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
    """Why no worker that runs can train it, e.g. for want of its data; None if one can."""


def progress(session: Session, search: Search) -> Progress:
    recipe = search_recipe(search)
    proposals = select(Proposal).where(Proposal.search_id == search.id).subquery()
    candidates = session.scalars(select(func.count()).where(Candidate.search_id == search.id)).one()
    proposed = session.scalars(select(func.count(proposals.c.candidate_id.distinct()))).one()
    status = _status_for(search)
    by_status = session.execute(
        select(status, func.count()).join(proposals, proposals.c.evaluation_id == Evaluation.id).group_by(status)
    )
    evaluations: dict[str, int] = dict(by_status.all())
    epochs_done = session.scalars(
        select(func.coalesce(func.sum(Stage.epochs_done), 0))
        .join(proposals, proposals.c.evaluation_id == Stage.evaluation_id)
        .where(stages_wanted_by(search))
    ).one()
    left = evaluations_left(session, search)
    planned = sum(evaluations.values()) + (candidates - proposed) * len(search.seeds)
    if left is not None:
        planned = min(planned, sum(evaluations.values()) + left)
    each = recipe.float_part.epochs + len(search.bit_widths) * recipe.retraining.epochs
    waiting = waits_for(session, search) if search.status == "running" else None
    return Progress(candidates, proposed, evaluations, int(epochs_done), planned * each, waiting)


def candidates_of(session: Session, search: Search) -> list[tuple[Candidate, list[tuple[Evaluation, str]]]]:
    """Every candidate, in the order they were enumerated, with its evaluations and their status for this search."""
    found: dict[int, tuple[Candidate, list[tuple[Evaluation, str]]]] = {
        candidate.id: (candidate, [])
        for candidate in session.scalars(
            select(Candidate).where(Candidate.search_id == search.id).order_by(Candidate.id)
        )
    }
    linked = (
        select(Proposal.candidate_id, Evaluation, _status_for(search))
        .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .where(Proposal.search_id == search.id)
        .order_by(Evaluation.seed)
    )
    for candidate_id, evaluation, status in session.execute(linked):
        found[candidate_id][1].append((evaluation, status))
    return list(found.values())


def _status_for(search: Search) -> ColumnElement[str]:
    """An evaluation's status as a search sees it: done once every stage it wants has ended, whatever others want."""
    waits = exists().where(Stage.evaluation_id == Evaluation.id, Stage.status == "pending", stages_wanted_by(search))
    return case((waits, Evaluation.status), else_="done")
