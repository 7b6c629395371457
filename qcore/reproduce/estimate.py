"""How long training takes on this machine, from a few timed optimizer steps of each network."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

import torch

from qcore.bit_widths import FLOAT
from qcore.cost import macs
from qcore.layers import LayerList
from qcore.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore.architecture import Architecture
    from qcore.bit_widths import BitWidths
    from qcore.layers import Layer, Shape
    from qcore.stages import Stage
    from qcore.tasks import Task

_PROBE_MACS = 300_000_000
"""A timed batch has about so many, and is no larger than the recipe's: large networks are timed on few images."""
_STEPS = 3
_LEAST_BATCH = 2
_QUANTIZED_RATIO = 1.3
"""Of a quantized step over a float one, for convolutions large enough to hide what quantizers cost."""


def stage_seconds(stage: Stage) -> float:
    """Seconds of one stage on one thread of this machine; a rough figure, without evaluation."""
    recipe = stage.recipe.float_part
    examples = stage.task.train_examples * (1 - recipe.validation_share)
    bits = FLOAT if stage.bit_widths.is_float else stage.bit_widths
    return stage.epochs * examples * _example_seconds(stage.task, stage.architecture, bits, recipe.batch_size)


def wall_seconds(costs: Sequence[float], workers: int) -> float:
    """Seconds until processes that take the next run whenever one is free have done them all, longest first."""
    busy = [0.0] * workers
    for cost in sorted(costs, reverse=True):
        busy[busy.index(min(busy))] += cost
    return max(busy)


@cache
def _example_seconds(task: Task, architecture: Architecture, bits: BitWidths, most: int) -> float:
    layers = architecture.layers(task)
    count = macs(layers)
    if count > _PROBE_MACS // _LEAST_BATCH:  # hours or days: their order is enough to know
        return count * _reference_seconds_per_mac() * (1 if bits.is_float else _QUANTIZED_RATIO)
    batch = max(_LEAST_BATCH, min(most, _PROBE_MACS // count))
    return _step_seconds(layers, bits, batch, task.input_shape) / batch


@cache
def _reference_seconds_per_mac() -> float:
    """Of a training step with 3x3 convolutions of 64 channels, which large networks are like."""
    layers = LayerList()
    x = layers.conv("first", layers.input((64, 32, 32)), 64)
    layers.conv("second", layers.relu("relu", layers.batch_norm("bn", x)), 64)
    found = tuple(layers.layers)
    return _step_seconds(found, FLOAT, _LEAST_BATCH, (64, 32, 32)) / _LEAST_BATCH / macs(found)


def _step_seconds(layers: tuple[Layer, ...], bits: BitWidths, batch: int, shape: Shape) -> float:
    network = Network(layers, bits)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    started = 0.0
    for step in range(_STEPS + 1):
        if step == 1:  # the first one allocates
            started = time.perf_counter()
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    return (time.perf_counter() - started) / _STEPS
