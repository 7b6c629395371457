"""Modules of a network's layers: those that quantize their weights, and what torch has no module for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from qcore.layers import Conv, Linear
    from qcore.quantizers import WeightQuantizer


class QuantizedConv2d(nn.Conv2d):
    """A convolution whose weights pass a quantizer, if it has one."""

    def __init__(self, layer: Conv, weight_quantizer: WeightQuantizer | None) -> None:
        super().__init__(
            layer.in_channels,
            layer.shape[0],
            layer.kernel_size,
            layer.stride,
            padding=layer.dilation * (layer.kernel_size // 2),
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias,
        )
        self.weight_quantizer = weight_quantizer
        self.quantized_weight: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(N, channels, height, width) to (N, out channels, ceil(height / stride), ceil(width / stride))."""
        weight = _effective_weight(self)
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            # The same sum over the points that count. torch 2.15's own kernel for it writes beyond its memory on CPUs,
            # channels last, with few channels: training on images of 64x64 crashed.
            input = input[:, :, :: self.stride[0], :: self.stride[1]]  # noqa: A001
            return nn.functional.conv2d(input, weight, self.bias, groups=self.groups)
        if self.groups > 1 and self.stride != (1, 1) and input.is_cpu and torch.is_autocast_enabled("cpu"):
            # oneDNN's bf16 kernel for the gradient of strided depthwise convolutions is ten times as slow as that of
            # four times the work without strides.
            whole = nn.functional.conv2d(input, weight, self.bias, 1, self.padding, self.dilation, self.groups)
            return whole[:, :, :: self.stride[0], :: self.stride[1]]
        return nn.functional.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class QuantizedLinear(nn.Linear):
    """A fully connected layer whose weights pass a quantizer, if it has one; flattens its input."""

    def __init__(self, layer: Linear, weight_quantizer: WeightQuantizer | None) -> None:
        super().__init__(layer.in_features, layer.shape[0])
        self.weight_quantizer = weight_quantizer
        self.quantized_weight: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(N, channels, height, width) to (N, features)."""
        weight = _effective_weight(self)
        return nn.functional.linear(input.flatten(1), weight, self.bias)


def _effective_weight(layer: QuantizedConv2d | QuantizedLinear) -> Tensor:
    """What a layer computes with: its quantized weights, which the network may have quantized with all others'."""
    if layer.quantized_weight is not None:
        return layer.quantized_weight
    return layer.weight if layer.weight_quantizer is None else layer.weight_quantizer(layer.weight)


class Sum(nn.Module):
    """Any number of tensors of one shape, summed and scaled."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, *terms: Tensor) -> Tensor:
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total if self.scale == 1.0 else total * self.scale


class Concatenation(nn.Module):
    """(N, c1, h, w), (N, c2, h, w), ... to (N, c1 + c2 + ..., h, w)."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class BilinearResize(nn.Module):
    """(N, c, h, w) to (N, c, height, width); corners coincide."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, self.size, mode="bilinear", align_corners=True)

    def extra_repr(self) -> str:
        return f"size={self.size}"
