"""Searches in which nothing succeeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from searcher.proposals import stages_wanted_by
from searcher.tables import Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def why_nothing_succeeded(session: Session, search: Search) -> str | None:
    """What befell the evaluations of a search; None if one has a result that ranks, or none of them failed."""
    proposed = select(Proposal.evaluation_id).where(Proposal.search_id == search.id)
    ranked = (
        select(Stage.id)
        .where(
            Stage.evaluation_id.in_(proposed),
            Stage.bit_widths == search.bit_widths[0],
            Stage.status != "pending",
            stages_wanted_by(search),
        )
        .limit(1)
    )
    if session.scalars(ranked).first() is not None:
        return None
    fell = select(Evaluation).where(Evaluation.id.in_(proposed), Evaluation.status.in_(("failed", "lost")))
    fallen = session.scalars(fell.order_by(Evaluation.ended_at.desc(), Evaluation.id.desc())).all()
    if not fallen:
        return None
    last, number = fallen[0], len(fallen)
    which = (
        "the only evaluation that ended failed:"
        if number == 1
        else f"all {number} evaluations that ended failed; the last,"
    )
    return f"{which} {last.architecture} with seed {last.seed}: {last.error}"
