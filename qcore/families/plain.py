"""Fully connected networks (paper, Section 3.2): "width-depth", where 128-3 is in-128-128-out, three weight layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.families.by_depth import ByDepth
from qcore.layers import LayerList

if TYPE_CHECKING:
    from qcore.layers import Layer, Shape


def expand(depth: int, width: int, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """``depth`` linear layers, ReLU between them; no batch normalization."""
    layers = LayerList()
    x = layers.input(input_shape)
    for index in range(1, depth):
        x = layers.relu(f"relu{index}", layers.linear(f"linear{index}", x, width))
    layers.linear("classifier", x, classes)
    return tuple(layers.layers)


FAMILY = ByDepth("plain", (3, 4, 5, 6, 8), layers_per_block=1, groups=1, expand=expand)
