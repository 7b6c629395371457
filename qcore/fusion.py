"""Which of a network's layers training computes in one pass: batch normalization, sum and activation behind each other.

A fused pass reads and writes every value about a third as often as its layers one by one, and keeps nothing for the
backward pass but what convolutions and shortcuts keep anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from qcore.kernels.clipping import Clipping
from qcore.kernels.functions import batch_norm_clip, clip
from qcore.layers import Activation, Add, BatchNorm, Input
from qcore.quantizers import ActivationQuantizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from qcore.kernels.functions import Kernels
    from qcore.layers import Layer


@dataclass(frozen=True)
class Step:
    """One call of a network's forward pass: ``run`` maps the values of ``inputs`` to that of layer ``name``."""

    name: str
    inputs: tuple[str, ...]
    run: Callable[..., Tensor]
    spent: tuple[str, ...] = ()
    """Layers whose values no later step reads."""


def single_steps(layers: tuple[Layer, ...], modules: Mapping[str, nn.Module]) -> list[Step]:
    """A step for every layer."""
    return _with_spent(
        Step(layer.name, layer.inputs, modules[layer.name]) for layer in layers if not isinstance(layer, Input)
    )


def fused_steps(layers: tuple[Layer, ...], modules: Mapping[str, nn.Module], kernels: Kernels) -> list[Step]:
    """A step for every activation that can be fused with what it reads, and one for every other layer."""
    by_name = {layer.name: layer for layer in layers}
    readers = [source for layer in layers for source in layer.inputs]

    def only_read_here(name: str) -> bool:
        return readers.count(name) == 1 and name != layers[-1].name

    steps: dict[str, Step] = {}
    for layer in layers:
        if isinstance(layer, Input):
            continue
        module = modules[layer.name]
        steps[layer.name] = Step(layer.name, layer.inputs, module)
        clipping = _clipping(layer, module) if isinstance(layer, Activation) else None
        if clipping is None:
            continue
        assert isinstance(module, ActivationQuantizer)
        inputs, norm, inner = layer.inputs, None, []
        source = by_name[layer.inputs[0]]
        if isinstance(source, Add) and source.scale == 1 and len(source.inputs) == 2 and only_read_here(source.name):
            inputs, inner = source.inputs, [source.name]
            norm = next((term for term in inputs if _is_norm(by_name[term]) and only_read_here(term)), None)
            if norm is not None:
                (other,) = (term for term in inputs if term != norm)
                inputs = (*by_name[norm].inputs, other)
        elif _is_norm(source) and only_read_here(source.name):
            inputs, norm = source.inputs, source.name
        if norm is not None:
            inner.append(norm)
            steps[layer.name] = Step(layer.name, inputs, _BatchNormClip(modules[norm], module, clipping, kernels))
        elif clipping.levels is not None:
            steps[layer.name] = Step(layer.name, inputs, _Clip(module, clipping, kernels))
        else:
            continue  # torch's own ReLU is one pass already
        for name in inner:
            del steps[name]
    return _with_spent(steps.values())


def _is_norm(layer: Layer) -> bool:
    return isinstance(layer, BatchNorm)


def _clipping(layer: Activation, module: nn.Module) -> Clipping | None:
    """What an activation does, if the kernels know it: not LSQ, and not a float identity."""
    assert isinstance(module, ActivationQuantizer)
    if module.bits is None:
        return None if layer.signed else Clipping(None, ceiling=layer.ceiling)
    if module.learned:
        return None
    assert module.levels is not None
    return Clipping(module.levels.highest, layer.signed)


@dataclass(frozen=True)
class _BatchNormClip:
    norm: nn.Module
    activation: ActivationQuantizer
    clipping: Clipping
    kernels: Kernels

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        assert isinstance(self.norm, nn.BatchNorm2d)
        return batch_norm_clip(x, residual, self.norm, _alpha(self.activation), self.clipping, self.kernels)


@dataclass(frozen=True)
class _Clip:
    activation: ActivationQuantizer
    clipping: Clipping
    kernels: Kernels

    def __call__(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        alpha = _alpha(self.activation)
        assert alpha is not None
        return clip(a, b, alpha, self.clipping, self.kernels)


def _alpha(activation: ActivationQuantizer) -> Tensor | None:
    return None if activation.bits is None else activation.get_parameter("clipping_value")


def _with_spent(steps: Iterable[Step]) -> list[Step]:
    found = list(steps)
    last_use = {source: step.name for step in found for source in step.inputs}
    return [
        Step(
            step.name,
            step.inputs,
            step.run,
            tuple(name for name in dict.fromkeys(step.inputs) if last_use[name] == step.name),
        )
        for step in found
    ]
