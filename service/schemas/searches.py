"""Searches, as REST shows them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from searcher.budgets import budgets_in_words
from searcher.progress import Progress
from searcher.situation import recipes_of, search_recipe
from service.schemas.recipes import RecipeView
from service.schemas.values import to_datetime

if TYPE_CHECKING:
    from searcher.tables import Search


class SearchView(BaseModel):
    """A search and how far it is."""

    id: int
    status: str = Field(description="running, finished, failed (nothing succeeded, or nothing could) or cancelled")
    task: str
    parameter_budget: int | None
    model_bytes_budget: int | None = Field(description="At the first bit widths, as bit operations are.")
    bit_operations_budget: int | None
    bit_widths: list[str] = Field(description="The first ranks.")
    seeds: list[int]
    engine: str
    sampler: str
    minimize: str | None
    rungs: list[RecipeView] = Field(description="Recipes cut short by which candidates are compared first.")
    promoted_share: float
    max_seeds: int
    top: int
    indifference_margin: float
    max_evaluations: int | None
    time_limit_s: float | None
    target_accuracy: float | None
    priority: int
    recipe: RecipeView
    progress: Progress
    posted_by: str | None = Field(description="Name of the API key it was posted with, if with any.")
    created_at: datetime
    ended_at: datetime | None
    ended_by: str | None = Field(
        description="Why it ended by itself: complete (nothing that was asked for is missing), max_evaluations, "
        "time_limit_s, target_accuracy, failures (all was tried, and some of it failed or was lost) or failed. To "
        "extend it trains what is missing."
    )
    problem: str | None = Field(description="Of a failed search: why.")
    links: dict[str, str]

    @classmethod
    def of(cls, search: Search, progress: Progress) -> SearchView:
        path = f"/searches/{search.id}"
        return cls(
            id=search.id,
            status=search.status,
            task=search.task,
            parameter_budget=search.parameter_budget,
            model_bytes_budget=search.model_bytes_budget,
            bit_operations_budget=search.bit_operations_budget,
            bit_widths=search.bit_widths,
            seeds=search.seeds,
            engine=search.engine,
            sampler=search.sampler,
            minimize=search.minimize,
            rungs=[RecipeView.of(recipe) for recipe in recipes_of(search)[:-1]],
            promoted_share=search.promoted_share,
            max_seeds=search.max_seeds,
            top=search.top,
            indifference_margin=search.indifference_margin,
            max_evaluations=search.max_evaluations,
            time_limit_s=search.time_limit_s,
            target_accuracy=search.target_accuracy,
            priority=search.priority,
            recipe=RecipeView.of(search_recipe(search)),
            progress=progress,
            posted_by=None if search.poster is None else search.poster.name,
            created_at=to_datetime(search.created_at),
            ended_at=None if search.ended_at is None else to_datetime(search.ended_at),
            ended_by=search.ended_by,
            problem=search.problem,
            links={
                "self": path,
                "candidates": f"{path}/candidates",
                "leaderboard": f"{path}/leaderboard",
                "events": f"{path}/events",
                "cancel": f"{path}/cancel",
                "extend": f"{path}/extend",
                "page": f"/ui/searches/{search.id}",
            },
        )

    @property
    def budgets(self) -> str:
        """In words."""
        return budgets_in_words(
            self.parameter_budget, self.model_bytes_budget, self.bit_operations_budget, self.bit_widths[0]
        )


class SearchList(BaseModel):
    """Searches, newest first."""

    searches: list[SearchView]
    next: str | None = Field(description="Where the older ones are; null where there are none.")
