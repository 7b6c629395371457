"""The network as it is shipped: integer weight codes, step sizes, BN as scale and shift. Every format is written of it.

Made of a network's state without torch, with the arithmetic of ``qcore.quantizers`` in float32, so that the codes are
those that the network computes with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from qcore.errors import InvalidInput
from qcore.layer_bits import activation_bits, weight_bits
from qcore.layers import Activation, BatchNorm, Conv, Linear
from qcore.levels import LEAST_CLIPPING_VALUE, Levels, activation_levels, weight_levels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qcore.export.description import NetworkDescription
    from qcore.layers import Layer, WeightLayer

FloatArray: TypeAlias = npt.NDArray[np.float32]

BN_EPSILON = 1e-5
"""torch's, which the networks are trained with."""

_LEAST = np.float32(LEAST_CLIPPING_VALUE)


@dataclass(frozen=True)
class QuantizedWeights:
    """Codes of one layer's weights, int16; code c stands for (c + levels.offset) * step."""

    codes: npt.NDArray[np.int16]
    """(out, in / groups, kernel, kernel), or (out, in)."""
    bits: int
    levels: Levels
    step: np.float32

    @property
    def values(self) -> FloatArray:
        """What the codes stand for, as the quantizer computes it."""
        return (self.codes.astype(np.float32) + np.float32(self.levels.offset)) * self.step

    @property
    def multiples(self) -> tuple[npt.NDArray[np.int16], np.float32]:
        """Integers and the scale they are multiples of: for mid-rise levels odd integers of half a step."""
        if self.levels.offset == 0:
            return self.codes, self.step
        assert self.levels.offset == 0.5
        return (2 * self.codes + 1).astype(np.int16), self.step * np.float32(0.5)


@dataclass(frozen=True)
class FloatWeights:
    """A layer's weights where they are not quantized; shaped as codes are."""

    values: FloatArray


@dataclass(frozen=True)
class ScaleAndShift:
    """Batch normalization in evaluation: x * scale + shift, each of shape (channels,)."""

    scale: FloatArray
    shift: FloatArray


@dataclass(frozen=True)
class ActivationGrid:
    """The codes of an activation layer: code c stands for c * step."""

    levels: Levels
    step: np.float32


Weights: TypeAlias = QuantizedWeights | FloatWeights


@dataclass(frozen=True)
class DeployedNetwork:
    """A network's numbers by layer name; activations that stay float are not among ``activations``."""

    description: NetworkDescription
    weights: dict[str, Weights]
    biases: dict[str, FloatArray]
    batch_norms: dict[str, ScaleAndShift]
    activations: dict[str, ActivationGrid]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """In order of computation."""
        return self.description.layers


def deploy(description: NetworkDescription, state: Mapping[str, npt.ArrayLike]) -> DeployedNetwork:
    """The network of a state dict, whose keys are those of ``qcore.Network``; values are arrays or CPU tensors.

    Raises:
        InvalidInput: when the state is not that of the described network, or not finite, as a diverged one's is.
    """
    settings = description.quantizers
    bits_of = weight_bits(description.layers, description.bit_widths, settings)
    network = DeployedNetwork(description, {}, {}, {}, {})
    for layer in description.layers:
        match layer:
            case Conv() | Linear():
                values = _read(state, f"{layer.name}.weight", layer.weight_shape)
                bits = bits_of[layer.name]
                if bits is None:
                    network.weights[layer.name] = FloatWeights(values)
                else:
                    step = _scalar(state, f"{layer.name}.weight_quantizer.step")
                    if settings.weight_step == "learned":
                        step = max(step, _LEAST)
                    levels = weight_levels(settings.weight_levels, bits)
                    network.weights[layer.name] = quantize(values, bits, levels, step)
                if layer.bias:
                    network.biases[layer.name] = _read(state, f"{layer.name}.bias", (layer.shape[0],))
            case BatchNorm():
                network.batch_norms[layer.name] = _scale_and_shift(state, layer)
            case Activation():
                bits = activation_bits(layer, description.bit_widths, settings)
                if bits is None:
                    continue
                levels = activation_levels(bits, signed=layer.signed)
                if settings.activation_step == "learned":
                    step = max(_scalar(state, f"{layer.name}.step"), _LEAST)
                else:
                    alpha = max(_scalar(state, f"{layer.name}.clipping_value"), _LEAST)
                    step = np.float32(alpha / np.float32(levels.highest))
                network.activations[layer.name] = ActivationGrid(levels, step)
            case _:
                pass
    return network


def quantize(values: FloatArray, bits: int, levels: Levels, step: np.float32) -> QuantizedWeights:
    """The codes of the nearest levels, for values of any shape; ties go to the even code, as in ``qcore.quantizers``.

    Raises:
        InvalidInput: for a step that is not positive.

    >>> quantize(np.array([-3.0, 0.5, 0.6], np.float32), 2, Levels(-1, 1), np.float32(1.0)).codes
    array([-1,  0,  1], dtype=int16)
    """
    if not step > 0:
        raise InvalidInput("step", float(step), "is no step size", "export a network that was trained to its end")
    with np.errstate(over="ignore"):  # beyond every level, which is clipped next
        nearest = np.rint(values / step - np.float32(levels.offset))
    codes = np.clip(nearest, levels.lowest, levels.highest).astype(np.int16)
    return QuantizedWeights(codes, bits, levels, step)


def folds(layers: tuple[Layer, ...]) -> dict[str, WeightLayer]:
    """By name, every BN that follows a weight layer directly, and that layer: where BN is a per-channel factor of the
    layer's scale, and a bias. A BN that reads a sum or an activation, or a layer others read too, stays on its own.
    """
    readers: dict[str, int] = {}
    for layer in layers:
        for source in layer.inputs:
            readers[source] = readers.get(source, 0) + 1
    weighted = {layer.name: layer for layer in layers if isinstance(layer, Conv | Linear)}
    return {
        layer.name: weighted[layer.inputs[0]]
        for layer in layers
        if isinstance(layer, BatchNorm) and layer.inputs[0] in weighted and readers[layer.inputs[0]] == 1
    }


def _scale_and_shift(state: Mapping[str, npt.ArrayLike], layer: BatchNorm) -> ScaleAndShift:
    shape = (layer.shape[0],)
    gamma, beta, mean, variance = (
        _read(state, f"{layer.name}.{name}", shape).astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BN_EPSILON)
    return ScaleAndShift(scale.astype(np.float32), (beta - mean * scale).astype(np.float32))


def _read(state: Mapping[str, npt.ArrayLike], name: str, shape: tuple[int, ...]) -> FloatArray:
    if name not in state:
        raise InvalidInput("network", name, "is not in its state", _REMEDY)
    values = np.asarray(state[name], dtype=np.float32)
    if values.shape != shape:
        raise InvalidInput("network", name, f"has shape {values.shape}, not {shape}", _REMEDY)
    if not np.isfinite(values).all():
        raise InvalidInput("network", name, "holds values that are not finite", "its training diverged; take another")
    return values


def _scalar(state: Mapping[str, npt.ArrayLike], name: str) -> np.float32:
    return np.float32(_read(state, name, ()))


_REMEDY = "export the state with the architecture, bit widths and quantizer settings it was trained with"
