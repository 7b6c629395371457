"""Pre-activation bottleneck networks for large images (He et al. 2016; paper, Table 1): 1x1, 3x3, 1x1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_block_list import ByBlockList, grouped_blocks, stem
from qcore.families.family import classifier
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

LAYERS_PER_BLOCK = 3
EXPANSION = 4


def expand(blocks_per_group: tuple[int, ...], width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """A block of width w hands on 4w channels as signed sums at the shortcut bits, which branch and shortcut read.

    The stride is the 3x3 convolution's. Where the shape changes, in the first block too, the shortcut is a 1x1
    convolution with BN that reads the block's first activation.
    """
    layers = LayerList()
    x = stem(layers, input_shape, width)
    for name, inner, stride in grouped_blocks(blocks_per_group, width):
        activated = layers.relu(f"{name}_relu1", layers.batch_norm(f"{name}_bn1", x))
        y = layers.conv(f"{name}_conv1", activated, inner, kernel_size=1)
        y = layers.relu(f"{name}_relu2", layers.batch_norm(f"{name}_bn2", y))
        y = layers.conv(f"{name}_conv2", y, inner, stride=stride)
        y = layers.relu(f"{name}_relu3", layers.batch_norm(f"{name}_bn3", y))
        y = layers.conv(f"{name}_conv3", y, EXPANSION * inner, kernel_size=1)
        shortcut = x
        if stride != 1 or layers.shape(x)[0] != EXPANSION * inner:
            shortcut = layers.conv(f"{name}_shortcut_conv", activated, EXPANSION * inner, kernel_size=1, stride=stride)
            shortcut = layers.batch_norm(f"{name}_shortcut_bn", shortcut)
        x = layers.add(f"{name}_add", (y, shortcut))
        x = layers.signed_activation(f"{name}_quantizer", x, holds="shortcut")
    x = layers.relu("last_relu", layers.batch_norm("last_bn", x))
    classifier(layers, x, classes)
    return tuple(layers.layers)


FAMILY = ByBlockList("imagenet-bottleneck", ((3, 4, 5, 2), (3, 4, 6, 3), (3, 4, 23, 3)), LAYERS_PER_BLOCK, expand)
