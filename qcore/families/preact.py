"""Pre-activation residual blocks (paper, Fig. 4b; He et al. 2016): BN-ReLU-conv-BN-ReLU-conv, added to the shortcut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_depth import GROUPS, ByDepth, grouped_blocks
from qcore.families.family import classifier
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

LAYERS_PER_BLOCK = 2


def expand(depth: int, width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The sums carry no ReLU: they are stored as signed values at the shortcut bits, which branch and shortcut read.

    Where the shape changes the shortcut is a 1x1 convolution with BN that reads the block's first activation.
    """
    layers = LayerList()
    x = layers.conv("stem_conv", layers.input(input_shape), width)
    x = layers.signed_activation("stem_quantizer", x, holds="shortcut")
    for name, channels, stride in grouped_blocks(depth, LAYERS_PER_BLOCK, width):
        x = preact_block(layers, name, x, channels, stride)
    x = layers.relu("last_relu", layers.batch_norm("last_bn", x))
    classifier(layers, x, classes)
    return tuple(layers.layers)


def preact_block(layers: LayerList, name: str, x: str, channels: int, stride: int) -> str:
    """Appends one block that reads the signed values of ``x``; returns the name of those that it hands on."""
    activated = layers.relu(f"{name}_relu1", layers.batch_norm(f"{name}_bn1", x))
    y = layers.conv(f"{name}_conv1", activated, channels, stride=stride)
    y = layers.relu(f"{name}_relu2", layers.batch_norm(f"{name}_bn2", y))
    y = layers.conv(f"{name}_conv2", y, channels)
    shortcut = x
    if stride != 1 or layers.shape(x)[0] != channels:
        shortcut = layers.conv(f"{name}_shortcut_conv", activated, channels, kernel_size=1, stride=stride)
        shortcut = layers.batch_norm(f"{name}_shortcut_bn", shortcut)
    x = layers.add(f"{name}_add", (y, shortcut))
    return layers.signed_activation(f"{name}_quantizer", x, holds="shortcut")


FAMILY = ByDepth("preact", (8, 14, 20, 26, 32, 44, 56), LAYERS_PER_BLOCK, GROUPS, expand)
