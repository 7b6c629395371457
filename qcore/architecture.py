"""An architecture: block kind, depth L and initial width D, with a canonical name that parses back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput
from qcore.families import FAMILIES

if TYPE_CHECKING:
    from qcore.layers import Layer
    from qcore.tasks import Task

LEAST_WIDTH, MOST_WIDTH, MOST_DEPTH = 3, 8192, 1202

_PATTERN = re.compile(r"([a-z]+)-L([1-9]\d{0,6})-D([1-9]\d{0,6})", re.ASCII)


@dataclass(frozen=True)
class Architecture:
    """One network of a family.

    >>> Architecture.parse("basic-L14-D40")
    Architecture(block='basic', depth=14, width=40)
    >>> Architecture("plain", 4, 128).name
    'plain-L4-D128'
    """

    block: str
    depth: int
    """Weight layers on the main path."""
    width: int
    """Channels (units) of the first layer."""

    def __post_init__(self) -> None:
        if self.block not in FAMILIES:
            raise InvalidInput("block", self.block, "is not a block kind", f"use one of {', '.join(FAMILIES)}")
        if not 1 <= self.depth <= MOST_DEPTH:
            raise InvalidInput("depth", self.depth, "is out of range", f"use 1 to {MOST_DEPTH}")
        if problem := FAMILIES[self.block].depth_problem(self.depth):
            raise InvalidInput("depth", self.depth, "does not exist", problem)
        if not LEAST_WIDTH <= self.width <= MOST_WIDTH:
            raise InvalidInput("width", self.width, "is out of range", f"use {LEAST_WIDTH} to {MOST_WIDTH}")

    @classmethod
    def parse(cls, name: str) -> Architecture:
        """The architecture a canonical name stands for.

        Raises:
            InvalidInput: for a name of another form, an unknown block kind, or a depth the family does not have.
        """
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise InvalidInput(
                "architecture", name, "is not a name", "use <block>-L<depth>-D<width>, e.g. basic-L14-D40"
            )
        return cls(match[1], int(match[2]), int(match[3]))

    @property
    def name(self) -> str:
        return f"{self.block}-L{self.depth}-D{self.width}"

    @property
    def blocks_per_group(self) -> tuple[int, ...] | None:
        """Residual blocks in each group; None for fully connected networks."""
        return FAMILIES[self.block].blocks_per_group(self.depth)

    def layers(self, task: Task) -> tuple[Layer, ...]:
        """The layers of this network for a task's input shape and classes.

        Raises:
            InvalidInput: when the task's inputs do not suit the family.
        """
        if self.block not in task.blocks:
            raise InvalidInput(
                "block", self.block, f"does not suit task {task.name}", f"use one of {', '.join(task.blocks)}"
            )
        return FAMILIES[self.block].expand(self.depth, self.width, task.input_shape, task.classes)
