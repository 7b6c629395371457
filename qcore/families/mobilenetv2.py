"""MobileNetV2 (Sandler et al. 2018, Table 2): inverted residuals, whose bottlenecks have no activation function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_multiplier import ByMultiplier, multiplied
from qcore.families.family import classifier
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

FIRST_CHANNELS, LAST_CHANNELS = 32, 1280
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first block)"""
CEILING = 6.0
"""Of the float network's ReLU6."""
SMALL_IMAGE = 64
"""Pixels. Where both sides of the images are at most so long, the first convolution has stride 1, not 2."""
LEAST_SIDE = 8
WEIGHT_LAYERS = 51
"""Of stem and blocks; the last 1x1 convolution and the classifier follow, or another head."""


def backbone(layers: LayerList, input_shape: Shape, multiplier: float, first_stride: int, output_stride: int) -> str:
    """Stem and the 17 blocks: 320 channels at multiplier 1, named as torchvision numbers them.

    Beyond ``output_stride`` blocks have stride 1, and the 3x3 convolutions after them are dilated instead.

    A bottleneck hands on signed values at the shortcut bits, which the next block's expansion and the shortcut both
    read; the ReLU6 inside a block are at the activation bits, and PACT's clipping values take the place of the 6.
    """
    channels = multiplied(FIRST_CHANNELS, multiplier)
    x = layers.conv("stem_conv", layers.input(input_shape), channels, stride=first_stride)
    x = layers.relu("stem_relu", layers.batch_norm("stem_bn", x), ceiling=CEILING)
    reached, dilation, number = first_stride, 1, 0
    for expansion, base, blocks, group_stride in GROUPS:
        for index in range(blocks):
            number += 1
            stride, own_dilation = (group_stride if index == 0 else 1), dilation
            if reached * stride > output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            x = _block(layers, f"block{number}", x, expansion, multiplied(base, multiplier), stride, own_dilation)
    return x


def _block(layers: LayerList, name: str, x: str, expansion: int, channels: int, stride: int, dilation: int) -> str:
    in_channels = layers.shape(x)[0]
    inner = in_channels * expansion
    y = x
    if expansion != 1:
        y = layers.batch_norm(f"{name}_bn1", layers.conv(f"{name}_expand", y, inner, kernel_size=1))
        y = layers.relu(f"{name}_relu1", y, ceiling=CEILING)
    y = layers.conv(f"{name}_depthwise", y, inner, stride=stride, groups=inner, dilation=dilation)
    y = layers.relu(f"{name}_relu2", layers.batch_norm(f"{name}_bn2", y), ceiling=CEILING)
    y = layers.batch_norm(f"{name}_bn3", layers.conv(f"{name}_project", y, channels, kernel_size=1))
    if stride == 1 and in_channels == channels:
        y = layers.add(f"{name}_add", (y, x))
    return layers.signed_activation(f"{name}_quantizer", y, holds="shortcut")


def expand(multiplier: float, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """torchvision's ``mobilenet_v2``, without its dropout.

    For images of at most 64 pixels a side the first stride of 2 is 1 (paper, Section 5.2). Multipliers below 1 leave
    the 1280 channels in front of the classifier as they are.
    """
    layers = LayerList()
    first_stride = 1 if max(input_shape[1:]) <= SMALL_IMAGE else 2
    x = backbone(layers, input_shape, multiplier, first_stride, output_stride=32)
    x = layers.conv("last_conv", x, multiplied(LAST_CHANNELS, max(1.0, multiplier)), kernel_size=1)
    x = layers.relu("last_relu", layers.batch_norm("last_bn", x), ceiling=CEILING)
    classifier(layers, x, classes)
    return tuple(layers.layers)


FAMILY = ByMultiplier("mobilenetv2", WEIGHT_LAYERS + 2, FIRST_CHANNELS, LEAST_SIDE, expand)
