"""Fully connected networks with residual connections (paper, Section 3.2 and Fig. 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_depth import ByDepth
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

SUM_SCALE = 0.5
"""Each sum is halved "to preserve the scale of the intermediate results"."""


def expand(depth: int, width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Each hidden output is added to the next layer's activation.

    Whether the sums are quantized again (Fig. 10) or handed on as they are (Fig. 3), in which case the next layer reads
    more levels than its bit widths say, is the recipe's to choose.
    """
    layers = LayerList()
    x = layers.relu("relu1", layers.linear("linear1", layers.input(input_shape), width))
    for index in range(2, depth):
        y = layers.relu(f"relu{index}", layers.linear(f"linear{index}", x, width))
        # Both terms are rectified, so the ReLU in front of this quantizer changes nothing.
        x = layers.relu(f"sum_relu{index}", layers.add(f"add{index}", (x, y), SUM_SCALE), holds="sum")
    layers.linear("classifier", x, classes)
    return tuple(layers.layers)


FAMILY = ByDepth("residual", (3, 4, 5, 6, 8), layers_per_block=1, groups=1, expand=expand)
