"""Families whose networks are told apart by depth and width: ``basic-L14-D40``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from qcore.errors import InvalidInput
from qcore.families.family import LEAST_WIDTH, MOST_DEPTH, MOST_WIDTH, Size, check_range, residual_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcore.families.family import Terms
    from qcore.layers import Layer, Shape

GROUPS = 3
"""Groups of equal blocks in the CIFAR networks; the width doubles and the size halves from one to the next."""

_TOLD_APART = 2
"""Blocks of a group that may differ from each other; those after them do not."""
_PATTERN = re.compile(r"L([1-9]\d{0,6})-D([1-9]\d{0,6})", re.ASCII)


@dataclass(frozen=True)
class ByDepth:
    """Networks of ``layers_per_block * groups * B + 2`` weight layers, for B blocks in each group.

    Fully connected ones have one group, which is none to speak of.
    """

    block: str
    default_depths: tuple[int, ...]
    layers_per_block: int
    groups: int
    expand: Callable[[int, int, Shape, int], tuple[Layer, ...]]
    """(depth, width, input shape, classes) -> layers"""

    form: ClassVar[str] = "L<depth>-D<width>"
    scales: ClassVar[range] = range(LEAST_WIDTH, MOST_WIDTH + 1)

    @property
    def example(self) -> str:
        return f"{self.block}-L{self.default_depths[1]}-D{40 if self.groups > 1 else 128}"

    def read(self, text: str) -> Size | None:
        match = _PATTERN.fullmatch(text)
        return None if match is None else Size(int(match[1]), int(match[2]))

    def write(self, size: Size) -> str:
        return f"L{size.depth}-D{size.width}"

    def check(self, size: Size) -> None:
        assert not size.detail, f"{self.block} networks have a depth and a width only"
        check_range("depth", size.depth, 1, MOST_DEPTH)
        step = self.layers_per_block * self.groups
        least = step + 2
        if size.depth < least or (size.depth - 2) % step:
            below = max(least, size.depth - (size.depth - 2) % step)
            rule = f"L = {step}B + 2" if step > 1 else f"L >= {least}"
            remedy = f"{self.block} networks have {rule} weight layers, e.g. L{below} or L{below + step}"
            raise InvalidInput("depth", size.depth, "does not exist", remedy)
        check_range("width", size.width, LEAST_WIDTH, MOST_WIDTH)

    def size(self, depth: int, scale: int) -> Size:
        size = Size(depth, scale)
        self.check(size)
        return size

    @property
    def depth_rule(self) -> str:
        return f"{self.block} has L{', L'.join(map(str, self.default_depths))} and others of the same form"

    def blocks_per_group(self, size: Size) -> tuple[int, ...] | None:
        return None if self.groups == 1 else _blocks_per_group(size.depth, self.layers_per_block)

    def in_small(self, size: Size) -> Terms:
        step = self.layers_per_block * self.groups
        equal = (size.depth - 2) // step - _TOLD_APART
        if equal <= 1:
            return ((size, 1),)
        depth = _TOLD_APART * step + 2
        return ((Size(depth, size.width), 1 - equal), (Size(depth + step, size.width), equal))

    def layers(self, size: Size, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
        return self.expand(size.depth, size.width, input_shape, classes)


def grouped_blocks(depth: int, layers_per_block: int, width: int) -> list[tuple[str, int, int]]:
    """(name, output channels, stride) of every block: B x 3, the first of groups 2 and 3 with stride 2."""
    widths = [width * 2**group for group in range(GROUPS)]
    return residual_blocks(widths, _blocks_per_group(depth, layers_per_block))


def _blocks_per_group(depth: int, layers_per_block: int) -> tuple[int, ...]:
    return ((depth - 2) // (GROUPS * layers_per_block),) * GROUPS
