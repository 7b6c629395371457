"""Basic residual blocks (paper, Fig. 4a): conv-BN-ReLU-conv-BN, added to the shortcut, then ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_depth import GROUPS, ByDepth, grouped_blocks
from qcore.families.family import classifier
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

LAYERS_PER_BLOCK = 2


def expand(depth: int, width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Every sum is rectified and quantized, so shortcuts carry unsigned values at the activation bits.

    Where the shape changes the shortcut is a 1x1 convolution with BN.
    """
    layers = LayerList()
    x = layers.conv("stem_conv", layers.input(input_shape), width)
    x = layers.relu("stem_relu", layers.batch_norm("stem_bn", x))
    for name, channels, stride in grouped_blocks(depth, LAYERS_PER_BLOCK, width):
        y = layers.batch_norm(f"{name}_bn1", layers.conv(f"{name}_conv1", x, channels, stride=stride))
        y = layers.relu(f"{name}_relu1", y)
        y = layers.batch_norm(f"{name}_bn2", layers.conv(f"{name}_conv2", y, channels))
        shortcut = x
        if stride != 1 or layers.shape(x)[0] != channels:
            shortcut = layers.conv(f"{name}_shortcut_conv", x, channels, kernel_size=1, stride=stride)
            shortcut = layers.batch_norm(f"{name}_shortcut_bn", shortcut)
        x = layers.relu(f"{name}_relu2", layers.add(f"{name}_add", (y, shortcut)))
    classifier(layers, x, classes)
    return tuple(layers.layers)


FAMILY = ByDepth("basic", (8, 14, 20, 26, 32, 44, 56), LAYERS_PER_BLOCK, GROUPS, expand)
