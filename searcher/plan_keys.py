"""The keys of everything that a planned search would train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searcher.proposals import stages_at_rung

if TYPE_CHECKING:
    from searcher.plan import SearchPlan

PlanKeys = list[list[set[str]]]
"""By candidate and rung, the full recipe last: keys of the stages that are wanted."""


def keys_of_plan(plan: SearchPlan) -> PlanKeys:
    """The keys of all stages that a search would train. It takes a second for the largest."""
    recipes = (*plan.rungs, plan.recipe)
    return [
        [
            {
                stage.key
                for seed in (plan.seeds if rung == len(plan.rungs) else plan.seeds[:1])
                for stage in stages_at_rung(plan.task, architecture, recipes, rung, seed, plan.bit_widths)
            }
            for rung in range(len(recipes))
        ]
        for architecture in plan.candidates
    ]
