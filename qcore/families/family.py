"""What every network family states about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcore.layers import Layer, LayerList, Shape

GROUPS = 3
"""Groups of equal blocks in the CIFAR networks; the width doubles and the size halves from one to the next."""


@dataclass(frozen=True)
class Family:
    """A block kind and how to stack it.

    For convolutional families the depth is ``layers_per_block * 3 * B + 2`` for B blocks in each of three groups.
    """

    block: str
    kind: Literal["convolutional", "fully connected"]
    default_depths: tuple[int, ...]
    layers_per_block: int
    expand: Callable[[int, int, Shape, int], tuple[Layer, ...]]
    """(depth, width, input shape, classes) -> layers"""

    def depth_problem(self, depth: int) -> str | None:
        """Why no network of this family has that many weight layers, with the nearest ones that exist."""
        step = self.layers_per_block * (GROUPS if self.kind == "convolutional" else 1)
        least = step + 2
        if depth >= least and (depth - 2) % step == 0:
            return None
        below = least if depth < least else depth - (depth - 2) % step
        rule = f"L = {step}B + 2" if step > 1 else f"L >= {least}"
        return f"{self.block} networks have {rule} weight layers, e.g. L{below} or L{below + step}"

    def blocks_per_group(self, depth: int) -> tuple[int, ...] | None:
        if self.kind == "fully connected":
            return None
        return ((depth - 2) // (GROUPS * self.layers_per_block),) * GROUPS


def grouped_blocks(depth: int, layers_per_block: int, width: int) -> list[tuple[str, int, int]]:
    """(name, output channels, stride) of every block: B x 3, the first of groups 2 and 3 with stride 2."""
    blocks_per_group = (depth - 2) // (GROUPS * layers_per_block)
    return [
        (f"group{group + 1}_block{block + 1}", width * 2**group, 2 if group and not block else 1)
        for group in range(GROUPS)
        for block in range(blocks_per_group)
    ]


def classifier(layers: LayerList, source: str, classes: int) -> None:
    """Global average pooling and the last weight layer."""
    layers.linear("classifier", layers.global_average_pool("pool", source), classes)
