"""A deployed network computed in numpy: the reference that hardware and other formats can be held against.

Where both codes are integers a layer is computed in exact integers, and only its result is scaled. Integers are held in
float64, which has them exactly up to 2^53 and whose matrix products are fast; everything else is float64 too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from qcore.errors import InvalidInput
from qcore.export.deployed import QuantizedWeights
from qcore.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    GlobalAveragePool,
    Input,
    Linear,
    MaxPool,
    Resize,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcore.export.deployed import ActivationGrid, DeployedNetwork
    from qcore.layers import Layer

Reals: TypeAlias = npt.NDArray[np.float64]
_Product: TypeAlias = "Callable[[Reals, Reals], Reals]"

_MOST_COLUMNS = 2**24
"""As many values may the columns that a convolution is multiplied as have (128 MiB), unless one input has more."""


@dataclass(frozen=True)
class Execution:
    """What a network computed for N inputs."""

    logits: Reals
    """(N, classes), or (N, classes, height, width) where every pixel is classified."""
    codes: dict[str, npt.NDArray[np.int16]]
    """(N, channels, height, width) of every quantized activation layer, by name."""


@dataclass(frozen=True)
class Values:
    """A layer's output, (N, channels, height, width): ``numbers * scale``; integers unless the scale is None."""

    numbers: Reals
    scale: float | None = None

    @property
    def reals(self) -> Reals:
        """(N, channels, height, width), as real numbers."""
        return self.numbers if self.scale is None else self.numbers * self.scale


def execute(network: DeployedNetwork, inputs: npt.NDArray[np.float32]) -> Execution:
    """Logits and activation codes for inputs of shape (N, channels, height, width): images in 0..1, or real numbers.

    They are normalized as the task says, in float32, as in training.

    Raises:
        InvalidInput: for inputs of another shape.
    """
    shape = network.description.input_shape
    if inputs.ndim != 4 or inputs.shape[1:] != shape or len(inputs) == 0:
        raise InvalidInput(
            "inputs", inputs.shape, "is not the network's input", f"give (N, {', '.join(map(str, shape))})"
        )
    batch = max(1, _MOST_COLUMNS // max(map(_columns, network.layers)))
    parts = [_execute(network, inputs[start : start + batch]) for start in range(0, len(inputs), batch)]
    return Execution(
        np.concatenate([part.logits for part in parts]),
        {name: np.concatenate([part.codes[name] for part in parts]) for name in network.activations},
    )


def _execute(network: DeployedNetwork, inputs: npt.NDArray[np.float32]) -> Execution:
    values: dict[str, Values] = {}
    codes: dict[str, npt.NDArray[np.int16]] = {}
    last_use = {source: layer.name for layer in network.layers for source in layer.inputs}
    for layer in network.layers:
        if isinstance(layer, Input):
            values[layer.name] = Values(normalize(network, inputs))
            continue
        values[layer.name] = compute_layer(network, layer, [values[source] for source in layer.inputs])
        if layer.name in network.activations:
            codes[layer.name] = values[layer.name].numbers.astype(np.int16)
        for source in set(layer.inputs):
            if last_use[source] == layer.name:
                del values[source]
    logits = values[network.layers[-1].name].reals
    if isinstance(network.layers[-1], Linear):
        logits = logits[:, :, 0, 0]
    return Execution(logits, codes)


def _columns(layer: Layer) -> int:
    if isinstance(layer, Conv):
        return layer.in_channels * layer.kernel_size**2 * layer.shape[1] * layer.shape[2]
    return layer.shape[0] * layer.shape[1] * layer.shape[2]


def normalize(network: DeployedNetwork, inputs: npt.NDArray[np.float32]) -> Reals:
    """Inputs of shape (N, channels, height, width) as the first layer reads them: normalized in float32."""
    mean = np.array(network.description.mean, dtype=np.float32).reshape(1, -1, 1, 1)
    std = np.array(network.description.std, dtype=np.float32).reshape(1, -1, 1, 1)
    return ((inputs.astype(np.float32) - mean) / std).astype(np.float64)


def compute_layer(network: DeployedNetwork, layer: Layer, sources: list[Values]) -> Values:
    """Computes the output of one layer, not the input, from the outputs of the layers in ``layer.inputs``, in order."""
    match layer:
        case Conv():
            return _multiplied(network, layer.name, sources[0], lambda x, w: _convolution(x, w, layer))
        case Linear():
            return _multiplied(network, layer.name, sources[0], _linear)
        case BatchNorm():
            batch_norm = network.batch_norms[layer.name]
            return Values(sources[0].reals * _by_channel(batch_norm.scale) + _by_channel(batch_norm.shift))
        case Activation():
            return _activated(sources[0].reals, network.activations.get(layer.name), layer)
        case Add():
            return Values(sum((source.reals for source in sources[1:]), sources[0].reals) * layer.scale)
        case GlobalAveragePool():
            total = sources[0].numbers.sum((2, 3), keepdims=True)
            if sources[0].scale is None:
                return Values(total / layer.positions)
            return Values(total, sources[0].scale / layer.positions)
        case MaxPool():  # scales are positive, so the largest number is the largest value
            windows = _windows(sources[0].numbers, layer.kernel_size, layer.stride, 1, -np.inf)
            return Values(windows.max((4, 5)), sources[0].scale)
        case Concat():
            if len({source.scale for source in sources}) == 1:
                return Values(np.concatenate([source.numbers for source in sources], 1), sources[0].scale)
            return Values(np.concatenate([source.reals for source in sources], 1))
        case Resize():
            if layer.in_size == (1, 1):
                spread = np.broadcast_to(sources[0].numbers, (len(sources[0].numbers), *layer.shape))
                return Values(spread, sources[0].scale)
            return Values(_resized(sources[0].reals, layer.shape[1:]))
        case Input():
            raise AssertionError("an input is not computed")


def _multiplied(network: DeployedNetwork, name: str, x: Values, product: _Product) -> Values:
    """A weight layer: a product of integers if both sides have codes, else of real numbers; then the bias."""
    weights = network.weights[name]
    if isinstance(weights, QuantizedWeights):
        multiples, step = weights.multiples
        scale = float(step) * (1.0 if x.scale is None else x.scale)
        y = Values(product(x.numbers, multiples.astype(np.float64)), scale)
    else:
        y = Values(product(x.reals, weights.values.astype(np.float64)))
    if name in network.biases:
        return Values(y.reals + _by_channel(network.biases[name]))
    # Real inputs times integer weights are not integers.
    return y if x.scale is not None and y.scale is not None else Values(y.reals)


def _convolution(x: Reals, weight: Reals, layer: Conv) -> Reals:
    count, groups, (channels, height, width) = len(x), layer.groups, layer.shape
    windows = _windows(x, layer.kernel_size, layer.stride, layer.dilation, 0.0)
    # (group, N x positions, channels of the group x kernel) @ (group, channels x kernel, output channels of the group)
    columns = windows.reshape(count, groups, -1, height, width, layer.kernel_size**2)
    columns = columns.transpose(1, 0, 3, 4, 2, 5).reshape(groups, count * height * width, -1)
    kernels = weight.reshape(groups, channels // groups, -1).transpose(0, 2, 1)
    product = (columns @ kernels).reshape(groups, count, height, width, channels // groups)
    return product.transpose(1, 0, 4, 2, 3).reshape(count, channels, height, width)


def _windows(x: Reals, kernel_size: int, stride: int, dilation: int, filling: float) -> Reals:
    """(N, channels, out height, out width, kernel, kernel)"""
    reach = dilation * (kernel_size - 1) + 1
    padding = (reach // 2, reach // 2)
    padded = np.pad(x, ((0, 0), (0, 0), padding, padding), constant_values=filling)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach), axis=(2, 3))
    return windows[:, :, ::stride, ::stride, ::dilation, ::dilation]


def _resized(x: Reals, size: tuple[int, ...]) -> Reals:
    """Linear interpolation along both axes; corners coincide."""
    for axis, length in zip((2, 3), size, strict=True):
        last = x.shape[axis] - 1
        place = np.arange(length) * (last / max(length - 1, 1))
        below = np.minimum(place.astype(np.int64), max(last - 1, 0))
        share = (place - below).reshape([-1 if each == axis else 1 for each in range(4)])
        x = np.take(x, below, axis) * (1 - share) + np.take(x, np.minimum(below + 1, last), axis) * share
    return x


def _linear(x: Reals, weight: Reals) -> Reals:
    return (x.reshape(len(x), -1) @ weight.T)[:, :, None, None]


def _activated(x: Reals, grid: ActivationGrid | None, layer: Activation) -> Values:
    if grid is None:
        rectified = x if layer.signed else np.maximum(x, 0)
        return Values(rectified if layer.ceiling is None else np.minimum(rectified, layer.ceiling))
    step = float(grid.step)
    return Values(np.clip(np.rint(x / step), grid.levels.lowest, grid.levels.highest), step)


def _by_channel(values: npt.NDArray[np.float32]) -> Reals:
    return values.astype(np.float64).reshape(1, -1, 1, 1)
