"""What REST answers with."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from qcore import Architecture, BitWidths, Description, describe, stored_task
from qcore.ranking import AccuracyInterval, RankInterval
from qcore.recipe import QuantizerSettings, Recipe
from searcher.budgets import budgets_in_words
from searcher.leaderboard import Accuracy, Entry, order_agreement
from searcher.progress import Progress, Proposed
from searcher.situation import recipes_of, search_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Task
    from searcher.tables import Candidate, CurvePoint, Evaluation, Search, Stage
    from searcher.workers import WorkerStatus


class RecipeView(BaseModel):
    """A recipe with the hash that identifies it."""

    name: str
    hash: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, recipe: Recipe) -> RecipeView:
        return cls(name=recipe.name, hash=recipe.hash(), settings=recipe.model_dump(mode="json", exclude={"name"}))


class SearchView(BaseModel):
    """A search and how far it is."""

    id: int
    status: str = Field(description="running, finished or cancelled")
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
    created_at: datetime
    ended_at: datetime | None
    ended_by: str | None = Field(
        description="Why a finished search ended: complete, max_evaluations, time_limit_s or target_accuracy."
    )
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
            created_at=_time(search.created_at),
            ended_at=None if search.ended_at is None else _time(search.ended_at),
            ended_by=search.ended_by,
            links={
                "self": path,
                "candidates": f"{path}/candidates",
                "leaderboard": f"{path}/leaderboard",
                "events": f"{path}/events",
                "cancel": f"{path}/cancel",
                "extend": f"{path}/extend",
                "page": f"/?search={search.id}",
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
            costs=_costs(
                candidate.architecture,
                search.task,
                search.task_version,
                tuple(search.bit_widths),
                search_recipe(search).retraining.quantizers,
            ),
            evaluations=[
                EvaluationSummary(
                    id=each.evaluation.id,
                    rung=each.rung,
                    seed=each.evaluation.seed,
                    status=each.status,
                    attempt=each.evaluation.attempt,
                    error=each.evaluation.error,
                )
                for each in evaluations
            ],
        )


class CandidateList(BaseModel):
    """A search's candidates, in the order they were enumerated."""

    candidates: list[CandidateView]


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
            costs = _costs(entry.architecture, task.name, task.version, tuple(bit_widths), recipe.retraining.quantizers)
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


class CurvePointView(BaseModel):
    """One epoch; the loss is null where it was no number."""

    epoch: int
    train_loss: float | None
    validation_accuracy: float | None
    learning_rate: float


class DivergenceView(BaseModel):
    """Where a diverged stage broke first."""

    step: int = Field(description="Optimizer step of the stage, counted from 0.")
    layer: str | None = Field(description="None where it was the loss.")
    quantity: str = Field(description="output, loss, gradient or state")


class StageView(BaseModel):
    """One training run and where its result came from."""

    bit_widths: str
    key: str
    status: str = Field(description="pending, done or diverged")
    epochs: int
    epochs_done: int
    validation_accuracy: float | None
    test_accuracy: float | None
    train_seconds: float | None
    network_digest: str | None = Field(
        description="SHA-256 of the trained network, as `quantrank export --format safetensors` writes it; "
        "null where none was trained or an earlier release stored it"
    )
    divergence: DivergenceView | None
    recipe: RecipeView
    provenance: dict[str, Any] | None
    curve: list[CurvePointView]


class EvaluationView(BaseModel):
    """One architecture, task, float recipe and seed, with its stages."""

    id: int
    task: str
    architecture: str
    parameters: int
    seed: int
    status: str
    attempt: int
    error: str | None
    searches: list[int]
    stages: list[StageView]

    @classmethod
    def of(
        cls, evaluation: Evaluation, searches: list[int], stages: Sequence[tuple[Stage, Sequence[CurvePoint]]]
    ) -> EvaluationView:
        return cls(
            id=evaluation.id,
            task=evaluation.task,
            architecture=evaluation.architecture,
            parameters=evaluation.parameters,
            seed=evaluation.seed,
            status=evaluation.status,
            attempt=evaluation.attempt,
            error=evaluation.error,
            searches=searches,
            stages=[
                StageView(
                    bit_widths=stage.bit_widths,
                    key=stage.key,
                    status=stage.status,
                    epochs=stage.epochs,
                    epochs_done=stage.epochs_done,
                    validation_accuracy=stage.validation_accuracy,
                    test_accuracy=stage.test_accuracy,
                    train_seconds=stage.train_seconds,
                    network_digest=stage.network_digest,
                    divergence=None if stage.divergence is None else DivergenceView(**stage.divergence),
                    recipe=RecipeView.of(Recipe.stored(stage.recipe)),
                    provenance=stage.provenance,
                    curve=[CurvePointView.model_validate(point, from_attributes=True) for point in curve],
                )
                for stage, curve in stages
            ],
        )


class DataView(BaseModel):
    """Whether a task's data set is on the server's host; a pool's workers have their own."""

    ready: bool
    remedy: str | None


class TaskView(BaseModel):
    """A data set that networks are compared on."""

    name: str
    version: str
    title: str
    input_shape: tuple[int, int, int]
    classes: int
    metric: str = Field(description="What accuracies are, in percent: accuracy, or mIOU.")
    train_examples: int
    validation_examples: int = Field(description="Of the data set's own; 0 where the recipe holds them out.")
    test_examples: int
    blocks: dict[str, tuple[int, ...]] = Field(description="Block kinds that suit the task, with default depths.")
    default_blocks: tuple[str, ...] = Field(description="Those of a search that names none.")
    recipes: list[RecipeView] = Field(description="The default first.")
    data: DataView


class TaskList(BaseModel):
    tasks: list[TaskView]


class MissingDataView(BaseModel):
    """A task that a worker leaves to others."""

    task: str
    task_version: str
    problem: str = Field(description="What is missing on its host, and what to do.")


class WorkView(BaseModel):
    """The evaluation that a worker has."""

    id: int
    task: str
    architecture: str
    seed: int


class WorkerView(BaseModel):
    """A process that runs evaluations, one at a time."""

    id: str
    host: str
    pid: int
    device: str = Field(description="cpu or cuda:<index>")
    memory_bytes: int | None = Field(description="All memory of the GPU, or of the host.")
    cores: int
    threads: int = Field(description="Of one training run.")
    versions: dict[str, Any] = Field(description="Of quantrank, its numerics, torch and Python.")
    status: str = Field(description="working, idle, or gone: its last sign of life is older than its lease.")
    evaluation: WorkView | None
    missing: list[MissingDataView]
    started_at: datetime
    heartbeat_at: datetime

    @classmethod
    def of(cls, found: WorkerStatus) -> WorkerView:
        worker, work = found.worker, found.evaluation
        return cls(
            id=worker.id,
            host=worker.host,
            pid=worker.pid,
            device=worker.device,
            memory_bytes=worker.memory_bytes,
            cores=worker.cores,
            threads=worker.threads,
            versions=worker.versions,
            status=found.status,
            evaluation=None if work is None else WorkView.model_validate(work, from_attributes=True),
            missing=[MissingDataView.model_validate(each, from_attributes=True) for each in found.missing],
            started_at=_time(worker.started_at),
            heartbeat_at=_time(worker.heartbeat_at),
        )


class WorkerList(BaseModel):
    """By host and device."""

    workers: list[WorkerView]


@lru_cache(maxsize=4096)
def _costs(
    architecture: str, task: str, version: str, bit_widths: tuple[str, ...], settings: QuantizerSettings
) -> Description:
    return describe(
        Architecture.parse(architecture),
        stored_task(task, version),
        [BitWidths.parse(bits) for bits in bit_widths],
        settings,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
