"""Main memory that training takes: an estimate from the layer list, without torch, and what a process has taken."""

from __future__ import annotations

import contextlib
import resource
import sys
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from qcore.cost import parameters

if TYPE_CHECKING:
    from qcore.layers import Layer
    from qcore.recipe import Recipe
    from qcore.tasks import Task

_BYTES = 4
"""Of a float32 value."""
_PROCESS_BYTES = 1_000_000_000
"""Of a process that has imported torch and Ray, and trained next to nothing."""
_CUDA_PROCESS_BYTES = 4_000_000_000
"""Of one that uses a GPU: its libraries, and the buffers of loader processes."""
_COPIES_OF_PARAMETERS = 12
"""Values, gradients, two of an optimizer's, as quantized, and copies of the training state while it is checkpointed."""
_EVALUATED, _EVALUATED_VALUES = 1000, 2**23
"""Most examples, and most input values, that are evaluated at once."""
_HELD_BYTES = 2**29
"""A larger data set is read file by file."""


def estimated_bytes(layers: tuple[Layer, ...], task: Task, recipe: Recipe, device: str = "cpu") -> int:
    """Peak main memory of a process that trains a network, float and quantized: an upper estimate, in bytes.

    On a CPU: 1 GB + 3 x data set + 4 x (2 x batch x values + 12 x parameters + 3 x evaluated x widest). ``values`` are
    those of all layers for one input: each is kept for the backward pass, and gradients take the place of what was
    kept; ``widest`` are those of a layer and of what it reads, for each of the 1000 inputs, at most, that are evaluated
    at once. They were seen to take 1 to 3 times their size: freed memory stays with the process, in pieces. A data set
    above 512 MB is not held. On a GPU, the device holds what training needs; the process takes 4 GB + 3 x data set.
    """
    per_example = prod(task.input_shape)
    examples = task.train_examples + task.validation_examples + task.test_examples
    data_set = examples * per_example * task.input_bits // 8
    held = 3 * data_set if data_set <= _HELD_BYTES else 0
    if device != "cpu":
        return _CUDA_PROCESS_BYTES + held
    values = {layer.name: prod(layer.shape) for layer in layers}
    kept = recipe.float_part.batch_size * sum(values.values())
    evaluated = min(_EVALUATED, max(1, _EVALUATED_VALUES // per_example))
    widest = max(values[layer.name] + sum(values[name] for name in layer.inputs) for layer in layers)
    tensors = 2 * kept + _COPIES_OF_PARAMETERS * parameters(layers) + 3 * evaluated * widest
    return _PROCESS_BYTES + held + _BYTES * tensors


def peak_bytes() -> int:
    """The most main memory that this process has taken so far, in bytes."""
    with contextlib.suppress(OSError):  # Linux; what getrusage says there is the parent's, where that was larger
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
