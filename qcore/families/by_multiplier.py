"""Families of one shape whose channels are multiplied: ``mobilenetv2-x0.5``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

from qcore.errors import InvalidInput
from qcore.families.family import Size, check_image_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcore.families.family import Terms
    from qcore.layers import Layer, Shape

STEP = 5
"""Hundredths. Multipliers are whole steps, so that no two of them round to the same channels."""

_PATTERN = re.compile(r"x(\d{1,3}(?:\.\d{0,6})?|\.\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class ByMultiplier:
    """Networks of one depth; the detail is the width multiplier in hundredths."""

    block: str
    depth: int
    first_channels: int
    """Of the first layer at multiplier 1."""
    least_side: int
    """Pixels of the smallest images."""
    expand: Callable[[float, Shape, int], tuple[Layer, ...]]
    """(multiplier, input shape, classes) -> layers"""

    form: ClassVar[str] = "x<width multiplier>"
    scales: ClassVar[range] = range(STEP, 800 + STEP, STEP)

    @property
    def default_depths(self) -> tuple[int, ...]:
        return (self.depth,)

    @property
    def example(self) -> str:
        return f"{self.block}-x0.5"

    def read(self, text: str) -> Size | None:
        match = _PATTERN.fullmatch(text)
        if match is None:
            return None
        hundredths = Decimal(match[1]) * 100
        if hundredths != int(hundredths):
            raise self._no_step(match[1], int(hundredths))
        return self._size(int(hundredths))

    def write(self, size: Size) -> str:
        (hundredths,) = size.detail
        return f"x{hundredths // 100}.{hundredths % 100:02}".removesuffix("0")

    def check(self, size: Size) -> None:
        if len(size.detail) != 1:
            remedy = f"use a name, e.g. Architecture.parse('{self.example}')"
            raise InvalidInput("multiplier", list(size.detail), "is not one width multiplier", remedy)
        if size != (right := self._size(size.detail[0])):
            field = "depth" if size.depth != right.depth else "width"
            value, needed = getattr(size, field), getattr(right, field)
            raise InvalidInput(field, value, f"is not that of {self.block}-{self.write(size)}", f"use {needed}")

    def size(self, depth: int, scale: int) -> Size:
        if depth != self.depth:
            raise InvalidInput("depth", depth, "does not exist", self.depth_rule)
        return self._size(scale)

    @property
    def depth_rule(self) -> str:
        return f"{self.block} has L{self.depth} only"

    def blocks_per_group(self, size: Size) -> None:  # noqa: ARG002  a family's signature
        return None

    def in_small(self, size: Size) -> Terms:
        return ((size, 1),)

    def layers(self, size: Size, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
        check_image_side(self.block, input_shape, self.least_side)
        (hundredths,) = size.detail
        return self.expand(hundredths / 100, input_shape, classes)

    def _size(self, hundredths: int) -> Size:
        least, most = self.scales[0], self.scales[-1]
        if not least <= hundredths <= most:
            remedy = f"use {least / 100} to {most / 100}"
            raise InvalidInput("multiplier", hundredths / 100, "is out of range", remedy)
        if hundredths % STEP:
            raise self._no_step(str(hundredths / 100), hundredths)
        return Size(self.depth, multiplied(self.first_channels, hundredths / 100), (hundredths,))

    def _no_step(self, multiplier: str, hundredths: int) -> InvalidInput:
        below = hundredths - hundredths % STEP
        nearest = [self.write(Size(0, 0, (each,))) for each in (below, below + STEP)]
        remedy = f"use {' or '.join(nearest)}"
        return InvalidInput("multiplier", multiplier, f"is no multiple of {STEP / 100}", remedy)


def multiplied(channels: int, multiplier: float) -> int:
    """Channels times a multiplier, as a multiple of 8 that is at least nine tenths of it: torchvision's rule.

    >>> multiplied(32, 0.5), multiplied(24, 0.45)  # 8 would be less than nine tenths of 10.8
    (16, 16)
    """
    exact = channels * multiplier
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded
