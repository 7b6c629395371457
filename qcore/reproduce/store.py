"""Trained stages on disk, one safetensors file each, named by key: whichever experiment asks next finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.checkpoints import read_tensors, write_tensors
from qcore.reproduce.experiment import TrainedStage

if TYPE_CHECKING:
    from pathlib import Path

    from qcore.stages import Stage
    from qcore.training import StageResult, State


def stage_path(folder: Path, stage: Stage) -> Path:
    """Where a finished stage is stored."""
    return folder / f"{stage.key}.safetensors"


def checkpoint_path(folder: Path, stage: Stage) -> Path:
    """Where an interrupted run of this stage goes on from."""
    return folder / f"{stage.key}.checkpoint"


def write_stage(folder: Path, stage: Stage, result: StageResult, provenance: dict[str, Any]) -> None:
    """Stores a finished stage, whole or not at all, and drops its checkpoint."""
    metadata = {
        "stage": stage.key,
        "label": stage.label,
        "status": result.status,
        "test_accuracy": result.test_accuracy,
        "validation_accuracy": result.validation_accuracy,
        "train_seconds": result.train_seconds,
        "divergence": None if result.divergence is None else str(result.divergence),
        "recipe": stage.recipe.model_dump(mode="json"),
        "provenance": provenance,
    }
    write_tensors(stage_path(folder, stage), result.state, metadata)
    checkpoint_path(folder, stage).unlink(missing_ok=True)


def read_stage(folder: Path, stage: Stage) -> TrainedStage | None:
    """How a stage ended; None if it has not, or its file is not whole."""
    found = _read(folder, stage)
    if found is None:
        return None
    metadata = found[1]
    return TrainedStage(
        stage.key,
        metadata["status"],
        metadata["test_accuracy"],
        metadata["validation_accuracy"],
        metadata["train_seconds"],
        stage_path(folder, stage),
        metadata.get("divergence"),
    )


def read_state(folder: Path, stage: Stage) -> State:
    """The network that a stored stage ended with."""
    found = _read(folder, stage)
    assert found is not None, f"{stage.label} is not stored"
    return found[0]


def _read(folder: Path, stage: Stage) -> tuple[State, dict[str, Any]] | None:
    found = read_tensors(stage_path(folder, stage))
    return None if found is None or found[1].get("stage") != stage.key else found
