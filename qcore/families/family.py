"""What every network family states about itself, and how networks of a family are named and sized."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from qcore.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore.layers import Layer, LayerList, Shape

LEAST_WIDTH, MOST_WIDTH, MOST_DEPTH = 3, 8192, 1202


class Size(NamedTuple):
    """How large a network of a family is."""

    depth: int
    """Weight layers on the main path."""
    width: int
    """Channels (units) of the first layer."""
    detail: tuple[int, ...] = ()
    """What a family's names say beside depth and width, as whole numbers."""


Terms = tuple[tuple[Size, int], ...]


class Family(Protocol):
    """A block kind: which networks it has, what they are called, and their layers."""

    @property
    def block(self) -> str:
        """Its name."""
        ...

    @property
    def form(self) -> str:
        """What follows the block kind and a hyphen in a network's name, for people."""
        ...

    @property
    def example(self) -> str:
        """A network's name."""
        ...

    @property
    def default_depths(self) -> tuple[int, ...]:
        """The depths of a search that asks for none."""
        ...

    @property
    def depth_rule(self) -> str:
        """The depths of searches, for people."""
        ...

    @property
    def scales(self) -> range:
        """What a search makes as large as the budget allows, at each depth; every cost rises with it."""
        ...

    def read(self, text: str) -> Size | None:
        """The size that follows the block kind in a name; None for a text of another form.

        Raises:
            InvalidInput: for a size that does not exist.
        """
        ...

    def write(self, size: Size) -> str:
        """The canonical text that ``read`` takes."""
        ...

    def check(self, size: Size) -> None:
        """Raises InvalidInput for a size that does not exist, naming the part that is wrong."""
        ...

    def size(self, depth: int, scale: int) -> Size:
        """The network of a search with that depth and scale.

        Raises:
            InvalidInput: for a depth that searches of this family do not have.
        """
        ...

    def blocks_per_group(self, size: Size) -> tuple[int, ...] | None:
        """Residual blocks in each group of equal width; None for networks without groups."""
        ...

    def in_small(self, size: Size) -> Terms:
        """Small networks, each with a factor: the sums of what their layers cost, so multiplied, make this network's.

        Blocks beyond the second of a group equal each other, so that deep networks need not be built to be counted.
        """
        ...

    def layers(self, size: Size, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
        """The layers for inputs of that shape and that many classes.

        Raises:
            InvalidInput: when the inputs do not suit the family.
        """
        ...


def check_range(field: str, value: int, least: int, most: int) -> None:
    """Raises InvalidInput outside ``least`` to ``most``."""
    if not least <= value <= most:
        raise InvalidInput(field, value, "is out of range", f"use {least} to {most}")


def check_image_side(block: str, input_shape: Shape, least: int) -> None:
    """Raises InvalidInput for images with a side shorter than ``least`` pixels."""
    _, height, width = input_shape
    if min(height, width) < least:
        raise InvalidInput(
            "block",
            block,
            f"does not suit images of {height}x{width} pixels",
            f"use images of at least {least}x{least}, or another block kind",
        )


def residual_blocks(widths: Sequence[int], blocks_per_group: Sequence[int]) -> list[tuple[str, int, int]]:
    """(name, width, stride) of every block: the first of each group but the first has stride 2.

    >>> residual_blocks([16, 32], [1, 2])
    [('group1_block1', 16, 1), ('group2_block1', 32, 2), ('group2_block2', 32, 1)]
    """
    return [
        (f"group{group}_block{block}", width, 2 if group > 1 and block == 1 else 1)
        for group, (width, blocks) in enumerate(zip(widths, blocks_per_group, strict=True), start=1)
        for block in range(1, blocks + 1)
    ]


def classifier(layers: LayerList, source: str, classes: int) -> None:
    """Global average pooling and the last weight layer."""
    layers.linear("classifier", layers.global_average_pool("pool", source), classes)
