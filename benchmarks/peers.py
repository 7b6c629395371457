"""The same networks by other libraries: Brevitas' layers, and torch's own FakeQuantize.

They come with ``pip install -e ".[bench]"``; what is missing is said, not skipped in silence.
"""

from __future__ import annotations

import importlib.util
from functools import partial

import torch
from torch import Tensor, nn

from qcore import FLOAT, BitWidths, Network
from qcore.fusion import single_steps
from qcore.layer_bits import activation_bits, weight_bits
from qcore.layers import Activation, Conv, Layer, Linear
from qcore.recipe import QuantizerSettings


def missing() -> list[str]:
    """Peers that are not installed here."""
    return [name for name in ("brevitas",) if importlib.util.find_spec(name) is None]


def brevitas_network(layers: tuple[Layer, ...], bit_widths: BitWidths) -> nn.Module:
    """Ternary weights with scales from statistics, activations with learned scales, as Brevitas has them by default."""
    import brevitas.nn as qnn

    weights = weight_bits(layers, bit_widths, QuantizerSettings())

    def replaced(layer: Layer) -> nn.Module | None:
        match layer:
            case Conv():
                return qnn.QuantConv2d(
                    layer.in_channels,
                    layer.shape[0],
                    layer.kernel_size,
                    layer.stride,
                    padding=layer.kernel_size // 2,
                    groups=layer.groups,
                    bias=layer.bias,
                    weight_bit_width=weights[layer.name],
                )
            case Linear():
                return nn.Sequential(
                    nn.Flatten(),
                    qnn.QuantLinear(layer.in_features, layer.shape[0], bias=True, weight_bit_width=weights[layer.name]),
                )
            case Activation():
                kind = qnn.QuantIdentity if layer.signed else qnn.QuantReLU
                return kind(bit_width=activation_bits(layer, bit_widths, QuantizerSettings()))
            case _:
                return None

    return _ReplacedLayers(layers, replaced)


def fake_quantize_network(layers: tuple[Layer, ...], bit_widths: BitWidths) -> nn.Module:
    """torch.ao's FakeQuantize with moving-average observers, as its quantization-aware training inserts it."""
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

    weights = weight_bits(layers, bit_widths, QuantizerSettings())

    def quantizer(bits: int, *, signed: bool) -> FakeQuantize:
        low, high = (-(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return FakeQuantize(
            MovingAverageMinMaxObserver,
            quant_min=low,
            quant_max=high,
            dtype=torch.qint8 if signed else torch.quint8,
            qscheme=torch.per_tensor_symmetric if signed else torch.per_tensor_affine,
        )

    def replaced(layer: Layer) -> nn.Module | None:
        match layer:
            case Conv():
                made = partial(
                    nn.functional.conv2d, stride=layer.stride, padding=layer.kernel_size // 2, groups=layer.groups
                )
                shape = (layer.shape[0], layer.in_channels // layer.groups, layer.kernel_size, layer.kernel_size)
            case Linear():
                made, shape = nn.functional.linear, (layer.shape[0], layer.in_features)
            case Activation():
                bits = activation_bits(layer, bit_widths, QuantizerSettings())
                quantize = quantizer(bits or 8, signed=layer.signed)
                return quantize if layer.signed else nn.Sequential(nn.ReLU(), quantize)
            case _:
                return None
        bits = weights[layer.name]
        assert bits is not None
        return _FakeQuantizedWeights(made, shape, quantizer(bits, signed=True), has_bias=layer.bias)

    return _ReplacedLayers(layers, replaced)


class _FakeQuantizedWeights(nn.Module):
    def __init__(self, function, shape: tuple[int, ...], quantizer: nn.Module, *, has_bias: bool) -> None:
        super().__init__()
        self.function, self.quantizer, self.flat = function, quantizer, len(shape) == 2
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(shape)))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.flatten(1) if self.flat else x, self.quantizer(self.weight), self.bias)


class _ReplacedLayers(nn.Module):
    """Our float network with some layers replaced by a library's."""

    def __init__(self, layers: tuple[Layer, ...], replaced) -> None:
        super().__init__()
        modules = dict(Network(layers, FLOAT).named_children())
        for layer in layers:
            module = replaced(layer)
            if module is not None:
                modules[layer.name] = module
        for name, module in modules.items():
            self.add_module(name, module)
        self.to(memory_format=torch.channels_last)
        self.steps, self.input, self.output = single_steps(layers, modules), layers[0].name, layers[-1].name

    def forward(self, x: Tensor) -> Tensor:
        values = {self.input: x}
        for step in self.steps:
            values[step.name] = step.run(*[values[name] for name in step.inputs])
            for name in step.spent:
                del values[name]
        return values[self.output]
