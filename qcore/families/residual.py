"""Fully connected networks with residual connections (paper, Section 3.2 and Fig. 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.family import Family
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape

SUM_SCALE = 0.5
"""Each sum is halved "to preserve the scale of the intermediate results"."""


def expand(depth: int, width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """Each hidden output is added to the next layer's activation; the sum is quantized again, as in Fig. 10.

    Were it not, the next layer would read more levels than its bit widths say.
    """
    layers = LayerList()
    x = layers.relu("relu1", layers.linear("linear1", layers.input(input_shape), width))
    for index in range(2, depth):
        y = layers.relu(f"relu{index}", layers.linear(f"linear{index}", x, width))
        # Both terms are rectified, so the ReLU in front of this quantizer changes nothing.
        x = layers.relu(f"sum_relu{index}", layers.add(f"add{index}", (x, y), SUM_SCALE))
    layers.linear("classifier", x, classes)
    return tuple(layers.layers)


FAMILY = Family("residual", "fully connected", (3, 4, 5, 6, 8), 1, expand)
