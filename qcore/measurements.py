"""What quantization does inside a trained network: noise against signal, how it grows, and which levels are used.

All ratios are of sums of squares over a whole tensor, accumulated in float64: signal-to-quantization-noise ratios as
Lin, Talathi and Annapureddy (2016) compare quantizers by them (the paper's Section 2.1), and the growth of activation
noise from layer to layer that Section 4.3 is about.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qcore.host_reads import read, to_host
from qcore.layers import BatchNorm, Conv, Linear
from qcore.levels import LEAST_CLIPPING_VALUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qcore.layers import Layer
    from qcore.levels import Levels
    from qcore.network import Network
    from qcore.quantizers import ActivationQuantizer, WeightQuantizer


@dataclass(frozen=True)
class CodeDistribution:
    """How often each code of a quantizer occurs."""

    codes: tuple[int, ...]
    """All that its level set has, rising."""
    shares: tuple[float, ...]
    """Of all values; they sum to 1."""
    dead_codes: tuple[int, ...]
    """Those that never occur."""


@dataclass(frozen=True)
class WeightMeasurement:
    """One layer's quantized weights."""

    layer: str
    step_size: float
    clipping_value: float
    """The largest magnitude that the levels reach."""
    sqnr_db: float | None
    """10 log10(sum w^2 / sum (w - Q(w))^2); None where nothing is lost, or all weights are zero."""
    distribution: CodeDistribution


@dataclass(frozen=True)
class ActivationMeasurement:
    """One activation quantizer, on the values it got from the batch."""

    layer: str
    step_size: float
    clipping_value: float
    clipped_share: float
    """Of all values: those beyond the clipping value, above or, for signed ones, below."""
    sqnr_db: float | None
    """10 log10(sum y^2 / sum (y - Q(x))^2), y being what the float activation function makes of the same input x."""
    distribution: CodeDistribution


@dataclass(frozen=True)
class NoiseMeasurement:
    """How activation noise passes one weight layer.

    Noise is the difference to the same network, with the same (quantized) weights, whose activations are all float.
    """

    layer: str
    input_noise_ratio: float
    """sum of squared noise / sum of squared values, of what the layer reads; 0 for the network's input."""
    output_noise_ratio: float
    """The same after the layer and, where one follows it directly, its batch normalization."""
    noise_gain: float | None
    """Output over input ratio: above 1 the layer amplifies relative noise; None where no noise comes in."""


@dataclass(frozen=True)
class Measurements:
    """Layers in order of computation; ``dataclasses.asdict`` makes JSON of it."""

    weights: tuple[WeightMeasurement, ...]
    activations: tuple[ActivationMeasurement, ...]
    noise: tuple[NoiseMeasurement, ...]


@torch.no_grad()
def measure_quantization(network: Network, layers: tuple[Layer, ...], x: Tensor) -> Measurements:
    """Measures a quantized network in evaluation mode on a batch.

    Args:
        network: left as it was.
        layers: the list that it was built from.
        x: normalized inputs (N, channels, height, width), on the network's device.
    """
    was_training = network.training
    network.eval()
    try:
        quantized, taken = _values(network, layers, x)
        with _in_float([quantizer for _, quantizer in network.activation_quantizers()]):
            full, _ = _values(network, layers, x)
    finally:
        network.train(was_training)
    return Measurements(
        tuple(
            _weights(name, module.weight, module.weight_quantizer)
            for name, module in network.weight_layers()
            if module.weight_quantizer is not None
        ),
        tuple(
            _activations(name, quantizer, taken[name], quantized[name])
            for name, quantizer in network.activation_quantizers()
            if quantizer.bits is not None
        ),
        tuple(_noise(layer, layers, quantized, full) for layer in layers if isinstance(layer, Conv | Linear)),
    )


def _weights(name: str, weight: Tensor, quantizer: WeightQuantizer) -> WeightMeasurement:
    quantized, levels = quantizer(weight), quantizer.levels
    step = quantizer.step.clamp_min(LEAST_CLIPPING_VALUE) if quantizer.learned else quantizer.step
    reach = max(levels.largest_positive, levels.largest_negative)
    return WeightMeasurement(
        name,
        read(step, "a measurement"),
        read(step, "a measurement") * reach,
        _decibels(weight, weight - quantized),
        _distribution(quantized, step, levels),
    )


def _activations(name: str, quantizer: ActivationQuantizer, x: Tensor, quantized: Tensor) -> ActivationMeasurement:
    assert quantizer.levels is not None
    with _in_float([quantizer]):
        y = quantizer(x)
    step = quantizer.step_size()
    clipping_value = read(step, "a measurement") * quantizer.levels.highest
    return ActivationMeasurement(
        name,
        read(step, "a measurement"),
        clipping_value,
        read((y.abs() > clipping_value).double().mean(), "a measurement"),
        _decibels(y, y - quantized),
        _distribution(quantized, step, quantizer.levels),
    )


def _noise(
    layer: Conv | Linear, layers: tuple[Layer, ...], quantized: dict[str, Tensor], full: dict[str, Tensor]
) -> NoiseMeasurement:
    normalized = (each.name for each in layers if isinstance(each, BatchNorm) and each.inputs == (layer.name,))
    output = next(normalized, layer.name)
    ratio_in, ratio_out = (_ratio(quantized[name] - full[name], full[name]) for name in (layer.inputs[0], output))
    return NoiseMeasurement(layer.name, ratio_in, ratio_out, ratio_out / ratio_in if ratio_in else None)


def _values(network: Network, layers: tuple[Layer, ...], x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every layer's output, and every single-input layer's input, by name."""
    outputs: dict[str, Tensor] = {layers[0].name: x}
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, taken: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name], outputs[name] = taken[0], output

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in network.named_children()]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, inputs


def _distribution(quantized: Tensor, step: Tensor, levels: Levels) -> CodeDistribution:
    codes = (quantized.double() / step.double() - levels.offset).round().long().flatten() - levels.lowest
    found = torch.zeros(len(levels.codes), dtype=torch.int64, device=codes.device)
    # Not torch.bincount, whose size depends on the largest code: the host would wait for that.
    counts = to_host(found.index_add_(0, codes, torch.ones_like(codes)), "a distribution of codes").tolist()
    shares = tuple(count / codes.numel() for count in counts)
    dead = tuple(code for code, count in zip(levels.codes, counts, strict=True) if not count)
    return CodeDistribution(tuple(levels.codes), shares, dead)


def _decibels(signal: Tensor, error: Tensor) -> float | None:
    ratio = _ratio(error, signal)
    return -10 * math.log10(ratio) if ratio else None


def _ratio(noise: Tensor, signal: Tensor) -> float:
    """Power of noise over that of the signal; 0 where there is no signal."""
    power = read(signal.double().square().sum(), "a measurement")
    return read(noise.double().square().sum(), "a measurement") / power if power else 0.0


@contextmanager
def _in_float(quantizers: list[ActivationQuantizer]) -> Iterator[None]:
    bits = {quantizer: quantizer.bits for quantizer in quantizers}
    for quantizer in bits:
        quantizer.bits = None
    try:
        yield
    finally:
        for quantizer, own in bits.items():
            quantizer.bits = own
