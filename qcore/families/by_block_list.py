"""Families whose groups differ in length: ``imagenet-preact-L34-D64-B3.4.6.3``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from qcore.errors import InvalidInput
from qcore.families.family import (
    LEAST_WIDTH,
    MOST_DEPTH,
    MOST_WIDTH,
    Size,
    check_image_side,
    check_range,
    residual_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcore.families.family import Terms
    from qcore.layers import Layer, LayerList, Shape

GROUPS = 4
LEAST_SIDE = 64
"""Pixels: stem, max pooling and three groups divide by 32, which leaves 2x2 of them."""

_TOLD_APART = 2
"""Blocks of a group that may differ from each other; those after them do not."""
_PATTERN = re.compile(r"L([1-9]\d{0,6})-D([1-9]\d{0,6})-B([1-9]\d{0,3}(?:\.[1-9]\d{0,3})*)", re.ASCII)


@dataclass(frozen=True)
class ByBlockList:
    """Networks of ``layers_per_block * (sum of the block list) + 2`` weight layers; the detail is the block list."""

    block: str
    block_lists: tuple[tuple[int, ...], ...]
    """Blocks in each group of the networks that searches try, one list a depth, by rising depth."""
    layers_per_block: int
    expand: Callable[[tuple[int, ...], int, Shape, int], tuple[Layer, ...]]
    """(blocks per group, width, input shape, classes) -> layers"""

    form: ClassVar[str] = "L<depth>-D<width>-B<blocks in each of four groups>"
    scales: ClassVar[range] = range(LEAST_WIDTH, MOST_WIDTH + 1)

    @property
    def default_depths(self) -> tuple[int, ...]:
        return tuple(map(self._depth, self.block_lists))

    @property
    def example(self) -> str:
        return f"{self.block}-{self.write(self.size(self.default_depths[0], 64))}"

    def read(self, text: str) -> Size | None:
        match = _PATTERN.fullmatch(text)
        if match is None:
            return None
        return Size(int(match[1]), int(match[2]), tuple(map(int, match[3].split("."))))

    def write(self, size: Size) -> str:
        return f"L{size.depth}-D{size.width}-{_written(size.detail)}"

    def check(self, size: Size) -> None:
        check_range("depth", size.depth, 1, MOST_DEPTH)
        if len(size.detail) != GROUPS or min(size.detail) < 1:
            remedy = f"give {GROUPS} whole numbers, e.g. {_written(self.block_lists[0])}"
            raise InvalidInput("blocks_per_group", list(size.detail), f"are not {GROUPS} groups' blocks", remedy)
        if size.depth != self._depth(size.detail):
            blocks = _written(size.detail)
            rule = f"{blocks} has {self.layers_per_block} weight layers a block and 2 more"
            raise InvalidInput("depth", size.depth, f"is not that of {blocks}", f"{rule}: L{self._depth(size.detail)}")
        check_range("width", size.width, LEAST_WIDTH, MOST_WIDTH)

    def size(self, depth: int, scale: int) -> Size:
        for blocks in self.block_lists:
            if self._depth(blocks) == depth:
                return Size(depth, scale, blocks)
        raise InvalidInput("depth", depth, "has no block list of its own", self.depth_rule)

    @property
    def depth_rule(self) -> str:
        known = ", ".join(f"L{self._depth(blocks)} ({_written(blocks)})" for blocks in self.block_lists)
        return f"{self.block} has {known}, and others by their names"

    def blocks_per_group(self, size: Size) -> tuple[int, ...]:
        return size.detail

    def in_small(self, size: Size) -> Terms:
        few = tuple(min(blocks, _TOLD_APART) for blocks in size.detail)
        terms = []
        for group, blocks in enumerate(size.detail):
            if blocks > few[group]:
                one_more = (*few[:group], few[group] + 1, *few[group + 1 :])
                terms.append((Size(self._depth(one_more), size.width, one_more), blocks - few[group]))
        alone = (Size(self._depth(few), size.width, few), 1 - sum(times for _, times in terms))
        return (alone, *terms)

    def layers(self, size: Size, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
        check_image_side(self.block, input_shape, LEAST_SIDE)
        return self.expand(size.detail, size.width, input_shape, classes)

    def _depth(self, blocks: tuple[int, ...]) -> int:
        return self.layers_per_block * sum(blocks) + 2


def grouped_blocks(blocks_per_group: tuple[int, ...], width: int) -> list[tuple[str, int, int]]:
    """(name, width, stride) of every block; the width doubles and the size halves from one group to the next."""
    return residual_blocks([width * 2**group for group in range(GROUPS)], blocks_per_group)


def stem(layers: LayerList, input_shape: Shape, width: int) -> str:
    """7x7 convolution and max pooling, each with stride 2; hands on signed values at the shortcut bits.

    Pooling the quantized values gives the same as quantizing the pooled ones: both only keep the order.
    """
    x = layers.conv("stem_conv", layers.input(input_shape), width, kernel_size=7, stride=2)
    x = layers.signed_activation("stem_quantizer", x, holds="shortcut")
    return layers.max_pool("stem_pool", x, kernel_size=3, stride=2)


def _written(blocks: tuple[int, ...]) -> str:
    return f"B{'.'.join(map(str, blocks))}"
