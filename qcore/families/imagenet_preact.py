"""Pre-activation residual networks for large images (He et al. 2016; paper, Table 1): four groups of basic blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_block_list import ByBlockList, grouped_blocks, stem
from qcore.families.family import classifier
from qcore.families.preact import preact_block
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

LAYERS_PER_BLOCK = 2


def expand(blocks_per_group: tuple[int, ...], width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Blocks are those of ``preact``, behind a stem that divides the image's sides by four."""
    layers = LayerList()
    x = stem(layers, input_shape, width)
    for name, channels, stride in grouped_blocks(blocks_per_group, width):
        x = preact_block(layers, name, x, channels, stride)
    x = layers.relu("last_relu", layers.batch_norm("last_bn", x))
    classifier(layers, x, classes)
    return tuple(layers.layers)


FAMILY = ByBlockList("imagenet-preact", ((2, 2, 2, 2), (3, 3, 3, 3), (3, 4, 6, 3)), LAYERS_PER_BLOCK, expand)
