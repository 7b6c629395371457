"""Estimates of searches, as REST shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from qcore import Description, describe
from service.schemas.recipes import RecipeView

if TYPE_CHECKING:
    from searcher.estimate import Estimate
    from searcher.plan import SearchPlan


class EstimatedCandidate(BaseModel):
    """A feasible architecture, its costs, and what is to be trained of it."""

    costs: Description
    stages_stored: int = Field(description="Of the full recipe's stages, over all seeds, those that are there already.")
    hours: float = Field(description="Of training the others on one worker, if it is trained by the full recipe.")


class EstimateView(BaseModel):
    """What a search would train and how long that takes. Nothing is stored, and nothing is promised."""

    task: str
    recipe: RecipeView
    bit_widths: list[str] = Field(description="The first ranks.")
    candidates: int = Field(description="Feasible architectures.")
    evaluations: int = Field(
        description="Expected to be trained: candidates x rungs x seeds, less those whose results are there, within "
        "`max_evaluations`. Further seeds (`max_seeds`) are left out: nobody knows how many it takes."
    )
    training_hours: float = Field(description="Of all of them, one after another.")
    hours: float = Field(description="Until the search ends, if so many workers do nothing else.")
    workers: int = Field(description="What `hours` is for: as asked, or those that run now, and at least 1.")
    workers_live: int = Field(description="Workers that run now.")
    rests_on: str = Field(description="What the hours rest on, in words.")
    measured_stages: int = Field(
        description="Results of the same task they are scaled from; 0 where a default is taken."
    )
    seconds_per_mac: float | None = Field(
        description="Measured training seconds for one MAC of one example in one epoch; null where a default is taken."
    )
    ended_by_time_limit: bool = Field(description="Whether `time_limit_s` ends it before everything is trained.")
    listed: list[EstimatedCandidate] = Field(description="The candidates, in their order; no more than asked for.")

    @classmethod
    def of(cls, plan: SearchPlan, found: Estimate, most: int) -> EstimateView:
        settings = plan.recipe.retraining.quantizers
        return cls(
            task=plan.task.name,
            recipe=RecipeView.of(plan.recipe),
            bit_widths=[str(bits) for bits in plan.bit_widths],
            candidates=len(found.candidates),
            evaluations=found.evaluations,
            training_hours=found.training_hours,
            hours=found.hours,
            workers=found.workers,
            workers_live=found.workers_live,
            rests_on=_in_words(plan, found),
            measured_stages=found.measured_stages,
            seconds_per_mac=found.seconds_per_mac,
            ended_by_time_limit=found.ended_by_time_limit,
            listed=[
                EstimatedCandidate(
                    costs=describe(each.architecture, plan.task, plan.bit_widths, settings),
                    stages_stored=each.stages_stored,
                    hours=each.hours,
                )
                for each in found.candidates[:most]
            ],
        )


def _in_words(plan: SearchPlan, found: Estimate) -> str:
    workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    if found.measured_stages:
        return (
            f"{found.measured_stages} measured stages of {plan.task.name}, scaled by MACs x epochs x examples, "
            f"on {workers}"
        )
    return (
        f"no measured stage of {plan.task.name}: an assumed {found.default.seconds_per_mac:g} seconds of training for "
        f"one MAC of one example, and {found.default.seconds_per_layer:g} for one layer in one step, on {workers}"
    )
