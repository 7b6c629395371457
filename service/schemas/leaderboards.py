"""Leaderboards, as REST shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from qcore.ranking import AccuracyInterval, RankInterval
from searcher.standings import Accuracy
from service.reproduction import recipe_text, reproducing_command
from service.schemas.recipes import RecipeView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Recipe, Task
    from searcher.leaderboard import Entry, LeaderboardPage


class ProvenanceView(BaseModel):
    """What made the stages at the ranking bit widths of some seeds."""

    seeds: list[int]
    quantrank: str | None = Field(None, description="Version of quantrank.")
    numerics: int | None = Field(None, description="Version of its numerics; leaderboards mix none.")
    torch: str | None = None
    python: str | None = None
    device: str | None = None
    threads: int | None = None
    revision: str | None = Field(None, description="Git revision, with -dirty if it was changed; null of a release.")
    accumulation: int | None = Field(None, description="Parts that batches were trained in, where memory ran out.")

    @classmethod
    def several(cls, entry: Entry) -> list[ProvenanceView]:
        """One for all seeds that were made alike."""
        found: list[ProvenanceView] = []
        for seed, values in zip(entry.seeds, entry.provenance, strict=True):
            view = cls.model_validate({"seeds": [seed], **values})
            alike = [each for each in found if view == each.model_copy(update={"seeds": [seed]})]
            if alike:
                alike[0].seeds.append(seed)
            else:
                found.append(view)
        return found


class EntryView(BaseModel):
    """One architecture on a leaderboard. Accuracies are percent, means over seeds."""

    rank: int = Field(description="1 + the entries that are better: ties share a rank.")
    ranks: RankInterval = Field(
        description="The ranks it may have, all entries' right at once with 95 % confidence: from 1 + the entries that "
        "are clearly better to the entries less those that are clearly worse. Of diverged ones all behind the others."
    )
    best_at: list[str] = Field(
        description="Of float and the ranking bit widths, those at which no entry has a better validation accuracy; "
        "provisional entries are passed over."
    )
    provisional: dict[str, list[int]] | None = Field(
        description="Seeds that were asked for and have no result, by bit widths; null where none is missing. Asked "
        "for by the search whose leaderboard it is; on that of all searches by any that has begun with the network, "
        "running or ended. A provisional entry has its rank, and is best at nothing."
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
    accuracy: dict[str, Accuracy] = Field(description="By bit widths, float first.")
    ranking_accuracies: list[float | None] = Field(
        description="Validation accuracy at the ranking bit widths, seed by seed; null where it diverged."
    )
    interval: AccuracyInterval | None = Field(
        description="95 % interval of the mean validation accuracy at the ranking bit widths. t: over seeds, variance "
        "pooled over entries. binomial, where no entry has two seeds: of one network over validation examples. null "
        "where the entry diverged, and for mIOU of one seed each."
    )
    drop: float | None = Field(description="Percentage points of test accuracy from float to the ranking bit widths.")
    train_seconds: float = Field(description="Of float and the ranking bit widths, summed over seeds.")
    provenance: list[ProvenanceView]
    command: str = Field(description="Trains the entry again, without a server.")

    @classmethod
    def of(cls, task: Task, bit_widths: Sequence[str], entry: Entry, recipe_given: str) -> EntryView:
        """``recipe_given`` is the recipe as the command takes it."""
        return cls(
            rank=entry.rank,
            ranks=entry.ranks,
            best_at=entry.best_at,
            provisional=entry.missing or None,
            architecture=entry.architecture,
            block=entry.block,
            depth=entry.depth,
            width=entry.width,
            parameters=entry.parameters,
            macs=entry.macs,
            bit_operations=entry.bit_operations,
            model_bytes=entry.model_bytes,
            seeds=entry.seeds,
            evaluations=entry.evaluations,
            diverged=entry.diverged,
            accuracy=entry.accuracy,
            ranking_accuracies=entry.ranking_accuracies,
            interval=entry.interval,
            drop=entry.drop,
            train_seconds=entry.train_seconds,
            provenance=ProvenanceView.several(entry),
            command=reproducing_command(
                entry.architecture, task, recipe_given, bit_widths, entry.seeds, entry.provenance[0]
            ),
        )


class LeaderboardView(BaseModel):
    """Finished evaluations of one task and recipe, ranked by validation accuracy at the first bit widths."""

    task: str
    recipe: RecipeView
    recipe_changes: dict[str, Any] = Field(description="Settings that are not those of the task's recipe of that name.")
    bit_widths: list[str] = Field(description="The first ranks.")
    validation_examples: int = Field(description="How many examples validation accuracies are measured on.")
    order_agreement: float | None = Field(
        description="Kendall's tau between the orders by float and by ranking validation accuracy, of all entries or "
        "the 2,000 best: 1 if they are equal, -1 if opposite; null of fewer than two."
    )
    best: dict[str, list[str]] = Field(
        description="Architectures with the best validation accuracy in float and at the ranking bit widths, on this "
        "page or not; several if they tie. Provisional entries are passed over, so that there may be none."
    )
    total: int = Field(description="Entries on all pages.")
    entries: list[EntryView]
    next: str | None = Field(None, description="Path and query of the next page; null on the last.")

    @classmethod
    def of(
        cls, task: Task, recipe: Recipe, bit_widths: Sequence[str], page: LeaderboardPage, next_page: str | None = None
    ) -> LeaderboardView:
        given = recipe_text(task, recipe)
        return cls(
            task=task.name,
            recipe=RecipeView.of(recipe),
            recipe_changes=task.recipe_changes(recipe),
            bit_widths=list(bit_widths),
            validation_examples=task.validation_size(recipe),
            order_agreement=page.order_agreement,
            best=page.best,
            total=page.total,
            entries=[EntryView.of(task, bit_widths, entry, given) for entry in page.entries],
            next=next_page,
        )
