"""A search's candidates, as REST shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from qcore import Description
from searcher.costs import costs_of
from searcher.situation import search_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from searcher.progress import Proposed
    from searcher.tables import Candidate, Search


class EvaluationSummary(BaseModel):
    """One seed of a candidate."""

    id: int
    rung: int | None = Field(description="Position among the search's rungs; null for the full recipe.")
    seed: int
    status: str = Field(description="queued, running, done, failed, lost or cancelled")
    attempt: int
    error: str | None


class CandidateView(BaseModel):
    """An architecture within the budgets, its costs, and the evaluations proposed for it."""

    costs: Description
    evaluations: list[EvaluationSummary]

    @classmethod
    def of(cls, search: Search, candidate: Candidate, evaluations: Sequence[Proposed]) -> CandidateView:
        return cls(
            costs=costs_of(
                candidate.architecture,
                search.task,
                search.task_version,
                tuple(search.bit_widths),
                search_recipe(search).retraining.quantizers,
            ),
            evaluations=[
                EvaluationSummary(
                    id=each.evaluation,
                    rung=each.rung,
                    seed=each.seed,
                    status=each.status,
                    attempt=each.attempt,
                    error=each.error,
                )
                for each in evaluations
            ],
        )


class CandidateList(BaseModel):
    """A search's candidates, in the order they were enumerated."""

    candidates: list[CandidateView]
    next: str | None = Field(description="Where those that follow are; null where there are none.")
