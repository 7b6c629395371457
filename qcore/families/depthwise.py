"""Depthwise blocks (paper, Fig. 4c; MobileNetV2): 1x1 expand, 3x3 depthwise, 1x1 project, added to the shortcut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_depth import GROUPS, ByDepth, grouped_blocks
from qcore.families.family import classifier
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

LAYERS_PER_BLOCK = 3
EXPANSION = 6


def expand(depth: int, width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The block's inner width is 6 x its *output* channels, which reproduces the paper's Table 5.

    The projection has no ReLU, so blocks hand on signed values at the shortcut bits, which the next block's expansion
    and shortcut both read; the two ReLUs inside a block are at the activation bits. Where the shape changes the
    shortcut is a 1x1 convolution with BN.
    """
    layers = LayerList()
    x = layers.conv("stem_conv", layers.input(input_shape), width)
    x = layers.relu("stem_relu", layers.batch_norm("stem_bn", x))
    for name, channels, stride in grouped_blocks(depth, LAYERS_PER_BLOCK, width):
        inner = EXPANSION * channels
        y = layers.batch_norm(f"{name}_bn1", layers.conv(f"{name}_expand", x, inner, kernel_size=1))
        y = layers.relu(f"{name}_relu1", y)
        y = layers.conv(f"{name}_depthwise", y, inner, stride=stride, groups=inner)
        y = layers.relu(f"{name}_relu2", layers.batch_norm(f"{name}_bn2", y))
        y = layers.batch_norm(f"{name}_bn3", layers.conv(f"{name}_project", y, channels, kernel_size=1))
        shortcut = x
        if stride != 1 or layers.shape(x)[0] != channels:
            shortcut = layers.conv(f"{name}_shortcut_conv", x, channels, kernel_size=1, stride=stride)
            shortcut = layers.batch_norm(f"{name}_shortcut_bn", shortcut)
        x = layers.add(f"{name}_add", (y, shortcut))
        x = layers.signed_activation(f"{name}_quantizer", x, holds="shortcut")
    classifier(layers, x, classes)
    return tuple(layers.layers)


FAMILY = ByDepth("depthwise", (11, 20, 29, 38, 56, 74, 110), LAYERS_PER_BLOCK, GROUPS, expand)
