"""Leaderboards, as REST shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from qcore.ranking import AccuracyInterval, RankInterval
from searcher.leaderboard import Accuracy, order_agreement
from service.schemas.recipes import RecipeView
from service.schemas.values import costs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Recipe, Task
    from searcher.leaderboard import Entry


class EntryView(BaseModel):
    """One architecture on a leaderboard. Accuracies are percent, means over seeds."""

    rank: int
    ranks: RankInterval = Field(
        description="The ranks it may have, all entries' right at once with 95 % confidence: from 1 + the entries that "
        "are clearly better to the entries less those that are clearly worse. Of diverged ones all behind the others."
    )
    architecture: str
    block: str
    depth: int
    width: int
    parameters: int
    macs: int
    bit_operations: dict[str, int]
    model_bytes: dict[str, int]
    seeds: list[int]
    evaluations: list[int]
    diverged: int = Field(description="How many of the seeds; entries that have any come last.")
    accuracy: dict[str, Accuracy]
    ranking_accuracies: list[float | None] = Field(
        description="Validation accuracy at the ranking bit widths, seed by seed; null where it diverged."
    )
    interval: AccuracyInterval | None = Field(
        description="95 % interval of the mean validation accuracy at the ranking bit widths. t: over seeds, variance "
        "pooled over entries. binomial, where no entry has two seeds: of one network over validation examples. null "
        "where the entry diverged, and for mIOU of one seed each."
    )
    drop: float | None = Field(description="Percentage points of test accuracy from float to the ranking bit widths.")
    train_seconds: float


class LeaderboardView(BaseModel):
    """Finished evaluations of one task and recipe, ranked by validation accuracy at the first bit widths."""

    task: str
    recipe: RecipeView
    recipe_changes: dict[str, Any] = Field(description="Settings that are not those of the task's recipe of that name.")
    bit_widths: list[str]
    validation_examples: int = Field(description="How many examples validation accuracies are measured on.")
    order_agreement: float | None = Field(
        description="Kendall's tau between the orders by float and by ranking validation accuracy: 1 if they are "
        "equal, -1 if opposite; null of fewer than two entries."
    )
    entries: list[EntryView]

    @classmethod
    def of(cls, task: Task, recipe: Recipe, bit_widths: Sequence[str], entries: Sequence[Entry]) -> LeaderboardView:
        views = []
        for entry in entries:
            costs = costs_of(
                entry.architecture, task.name, task.version, tuple(bit_widths), recipe.retraining.quantizers
            )
            views.append(
                EntryView(
                    rank=entry.rank,
                    ranks=entry.ranks,
                    architecture=entry.architecture,
                    block=entry.block,
                    depth=entry.depth,
                    width=entry.width,
                    parameters=entry.parameters,
                    macs=costs.macs,
                    bit_operations=costs.bit_operations,
                    model_bytes=costs.model_bytes,
                    seeds=entry.seeds,
                    evaluations=entry.evaluations,
                    diverged=entry.diverged,
                    accuracy=entry.accuracy,
                    ranking_accuracies=entry.ranking_accuracies,
                    interval=entry.interval,
                    drop=entry.drop,
                    train_seconds=entry.train_seconds,
                )
            )
        return cls(
            task=task.name,
            recipe=RecipeView.of(recipe),
            recipe_changes=task.recipe_changes(recipe),
            bit_widths=list(bit_widths),
            validation_examples=task.validation_size(recipe),
            order_agreement=order_agreement(entries),
            entries=views,
        )
