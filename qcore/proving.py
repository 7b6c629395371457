"""Whether this process can train: one step of every kind of a tiny network, on its device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from qcore.architecture import Architecture
from qcore.bit_widths import BitWidths
from qcore.data import Data, Split
from qcore.recipe import Recipe, override
from qcore.stages import stages_of
from qcore.tasks import get_task
from qcore.training import train_stage

if TYPE_CHECKING:
    from qcore.recipe import Path

_ARCHITECTURE = "basic-L8-D3"
_EXAMPLES = 8


def prove_training(device: torch.device, path: Path) -> None:
    """Trains, calibrates, quantizes and evaluates a tiny network by a path, whatever comes of it.

    Raises:
        RuntimeError: when what comes of it are no numbers; else whatever training raises.
    """
    task = get_task("digits")
    recipe = _recipe(path)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (_EXAMPLES, *task.input_shape), dtype=torch.uint8, generator=generator).to(device)
    split = Split(inputs, (torch.arange(_EXAMPLES) % task.classes).to(device))
    mean, std = (torch.tensor(each, device=device).reshape(1, -1, 1, 1) for each in (task.mean, task.std))
    data, state = Data(split, split, split, mean, std), None
    for stage in stages_of(task, Architecture.parse(_ARCHITECTURE), recipe, 0, (BitWidths(2, 2),)):
        result = train_stage(stage, data, start_state=state, device=device)
        if not all(math.isfinite(point.train_loss) for point in result.curve):
            raise RuntimeError(f"one step of {_ARCHITECTURE} on {device} by the path {path} gives no numbers")
        state = result.state


def _recipe(path: Path) -> Recipe:
    once = {"epochs": 1, "warmup_epochs": 0}
    changes = {
        "float_part": {"schedule": once, "batch_size": _EXAMPLES // 2, "path": path, "precision": "fp32"},
        "retraining": {"schedule": once},
    }
    return override(get_task("digits").recipe("short"), changes)
