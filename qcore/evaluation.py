"""Evaluating an architecture: its float stage, then one retraining per bit widths, without service or database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from qcore.data import load_data
from qcore.numerics import resolve_numerics
from qcore.stages import stages_of
from qcore.starting_network import resolve_checkpoint, starting_network
from qcore.training import CurvePoint, StageResult, train_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from qcore.architecture import Architecture
    from qcore.bit_widths import BitWidths
    from qcore.recipe import Recipe
    from qcore.stages import Stage
    from qcore.tasks import Task


def evaluate(
    architecture: Architecture,
    task: Task,
    bit_widths: Sequence[BitWidths],
    *,
    recipe: Recipe,
    data_root: Path,
    seed: int = 0,
    device: torch.device | None = None,
    on_epoch: Callable[[Stage, CurvePoint], None] = lambda _stage, _point: None,
) -> Iterator[tuple[Stage, StageResult]]:
    """Trains the float network and retrains it at each of the bit widths; yields every stage as it ends.

    Where the float stage diverges there is nothing to retrain from and it stays the only one. ``on_epoch`` hears of
    every epoch of every stage; ``device`` is the CPU if not given.

    Raises:
        DataMissing: when the task's data set is not below ``data_root``.
        InvalidInput: when the architecture does not suit the task, the recipe's checkpoint the architecture, or the
            recipe's path the device.
    """
    device = device or torch.device("cpu")
    recipe = resolve_numerics(resolve_checkpoint(recipe, data_root), task, str(device))
    stages = stages_of(task, architecture, recipe, seed, tuple(bit_widths))
    architecture.layers(task)
    data = load_data(task, recipe.float_part.validation_share, data_root, device)
    start_state = starting_network(stages[0], data_root)
    for stage in stages:

        def report(point: CurvePoint, stage: Stage = stage) -> None:
            on_epoch(stage, point)

        result = train_stage(stage, data, start_state=start_state, on_epoch=report, device=device)
        yield stage, result
        if stage.bit_widths.is_float:
            if result.status == "diverged":
                return
            start_state = result.state
