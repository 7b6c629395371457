"""The quantized training engine: how a candidate is trained, quantized and costed. Knows no database and no HTTP.

Names that need torch are loaded when first used: describing networks and listing tasks never imports it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT, BitWidths
from qcore.cost import Description, describe
from qcore.errors import DataMissing, InvalidInput
from qcore.recipe import Recipe, override
from qcore.recipe_scaling import scaled_recipe
from qcore.stages import Stage, stages_of
from qcore.tasks import TASKS, Task, get_task, list_tasks, stored_task

if TYPE_CHECKING:
    from qcore.evaluation import evaluate
    from qcore.export.network_file import load_network
    from qcore.measurements import measure_quantization
    from qcore.network import Network
    from qcore.quantizers import quantize_activation, quantize_weight, quantize_with_learned_step
    from qcore.step_size import l2_optimal_step
    from qcore.training import CurvePoint, StageResult, train_stage

_NEED_TORCH = {
    "CurvePoint": "qcore.training",
    "Network": "qcore.network",
    "StageResult": "qcore.training",
    "evaluate": "qcore.evaluation",
    "l2_optimal_step": "qcore.step_size",
    "load_network": "qcore.export.network_file",
    "measure_quantization": "qcore.measurements",
    "quantize_activation": "qcore.quantizers",
    "quantize_weight": "qcore.quantizers",
    "quantize_with_learned_step": "qcore.quantizers",
    "train_stage": "qcore.training",
}

__all__ = [
    "FLOAT",
    "TASKS",
    "Architecture",
    "BitWidths",
    "CurvePoint",
    "DataMissing",
    "Description",
    "InvalidInput",
    "Network",
    "Recipe",
    "Stage",
    "StageResult",
    "Task",
    "describe",
    "evaluate",
    "get_task",
    "l2_optimal_step",
    "list_tasks",
    "load_network",
    "measure_quantization",
    "override",
    "quantize_activation",
    "quantize_weight",
    "quantize_with_learned_step",
    "scaled_recipe",
    "stages_of",
    "stored_task",
    "train_stage",
]


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(_NEED_TORCH[name]), name)
    raise AttributeError(f"module 'qcore' has no attribute {name!r}")
