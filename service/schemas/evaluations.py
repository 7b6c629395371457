"""Evaluations and their stages, as REST shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from qcore.recipe import Recipe
from service.schemas.recipes import RecipeView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from searcher.tables import CurvePoint, Evaluation, Stage


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
