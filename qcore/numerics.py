"""Precision and path of training: what a recipe's ``auto`` stands for on a device.

Both decide the last digits of a result, so they are resolved where a request is taken and are part of what identifies
its stages. Accuracies are measured in fp32, whichever they are.
"""

from __future__ import annotations

import os
import platform
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput, NotHere

if TYPE_CHECKING:
    from qcore.recipe import Path as TrainingPath
    from qcore.recipe import Precision, Recipe
    from qcore.tasks import Task


_LEAST_BF16_PIXELS = 144
"""Of an input. On CPUs, conversions cost smaller networks what faster arithmetic saves (docs/performance.md)."""


def resolve_numerics(recipe: Recipe, task: Task, device: str) -> Recipe:
    """The recipe with its precision and path chosen for a task and a device, where it leaves them open.

    bf16 where the device computes with it and the task's inputs are large enough to gain; the fused kernels on a CPU
    with a C++ compiler, compiled ones on a GPU. Imports torch only for a GPU.

    Raises:
        InvalidInput: for a path that this machine or that device does not have.
    """
    part = recipe.float_part
    precision: Precision = part.precision
    if precision == "auto":
        _, height, width = task.input_shape
        precision = "bf16" if height * width >= _LEAST_BF16_PIXELS and _computes_bf16(device) else "fp32"
    path: TrainingPath = part.path
    if path == "auto":
        path = "compiled" if device != "cpu" else "fused" if has_kernels() else "plain"
    check_path(path, device)
    resolved = part.model_copy(update={"precision": precision, "path": path})
    return recipe if resolved == part else recipe.model_copy(update={"float_part": resolved})


def check_path(path: TrainingPath, device: str) -> None:
    """Refuses a path that cannot be taken here.

    Raises:
        InvalidInput: for ``fused`` on another device than the CPU; for any but ``plain`` without a C++ compiler.
    """
    field = "recipe.float_part.path"
    if path == "fused" and device != "cpu":
        raise InvalidInput(field, path, f"is for CPUs, not for {device}", "use compiled, plain or auto")
    if path in ("fused", "compiled") and device == "cpu" and not has_kernels():
        raise NotHere(field, path, "needs Linux and a C++ compiler", "install g++ or set CXX, or use plain")


def compiler() -> str | None:
    """The C++ compiler that kernels are built by: ``$CXX``, or g++ or c++ on the path."""
    names = (os.environ.get("CXX"), "g++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def has_kernels() -> bool:
    """Whether this machine can build the fused kernels."""
    return platform.system() == "Linux" and compiler() is not None


def _computes_bf16(device: str) -> bool:
    if device == "cpu":
        return bool(processor_features() & {"avx512_bf16", "amx_bf16", "bf16"})

    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def processor_features() -> frozenset[str]:
    """What Linux says this machine's processor can do (``avx512_bf16``, ...); empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, ()))
