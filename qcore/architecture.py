"""An architecture: a block kind and a size, with a canonical name that parses back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.aliases import canonical_name
from qcore.errors import InvalidInput
from qcore.families import FAMILIES, Size

if TYPE_CHECKING:
    from qcore.families import Family
    from qcore.layers import Layer, Shape
    from qcore.tasks import Task

_NAME = re.compile(r"([a-z][a-z0-9-]*?)-([Lx][\d.].*)", re.ASCII | re.DOTALL)
_FORMS = "use <block>-L<depth>-D<width>, e.g. basic-L14-D40, mobilenetv2-x0.5, or an alias, e.g. resnet20-x2"


@dataclass(frozen=True)
class Architecture:
    """One network of a family.

    Raises:
        InvalidInput: for an unknown block kind, or a depth, width, block list or multiplier that it does not have.

    >>> Architecture.parse("basic-L14-D40")
    Architecture(block='basic', depth=14, width=40, detail=())
    >>> Architecture("plain", 4, 128).name
    'plain-L4-D128'
    >>> Architecture.parse("imagenet-preact-L34-D64-B3.4.6.3").detail
    (3, 4, 6, 3)
    """

    block: str
    depth: int
    """Weight layers on the main path."""
    width: int
    """Channels (units) of the first layer."""
    detail: tuple[int, ...] = ()
    """What the family's names say besides: the blocks in each group, or a width multiplier in hundredths."""

    def __post_init__(self) -> None:
        if self.block not in FAMILIES:
            raise InvalidInput("block", self.block, "is not a block kind", f"use one of {', '.join(FAMILIES)}")
        FAMILIES[self.block].check(self._size)

    @classmethod
    def parse(cls, name: str) -> Architecture:
        """The architecture that a canonical name or an alias (``qcore.aliases``) stands for.

        Raises:
            InvalidInput: for a name of another form, an unknown block kind, or a size the family does not have.
        """
        match = _NAME.fullmatch(canonical_name(name))
        if match is None:
            begun = next((each for each in FAMILIES.values() if f"{name}-".startswith(f"{each.block}-")), None)
            raise InvalidInput("architecture", name, "is not a name", _form(begun) if begun else _FORMS)
        block, text = match[1], match[2]
        if block not in FAMILIES:
            raise InvalidInput("block", block, "is not a block kind", f"use one of {', '.join(FAMILIES)}")
        family = FAMILIES[block]
        size = family.read(text)
        if size is None:
            raise InvalidInput("architecture", name, "is not a name", _form(family))
        architecture = cls(block, *size)
        if family.write(size) != text:
            raise InvalidInput("architecture", name, "is not the canonical name", f"use {architecture.name}")
        return architecture

    @property
    def name(self) -> str:
        """The canonical name, as tables, stage keys and files hold it; ``parse`` reads it back."""
        return f"{self.block}-{FAMILIES[self.block].write(self._size)}"

    @property
    def blocks_per_group(self) -> tuple[int, ...] | None:
        """Residual blocks in each group of equal width; None for networks without such groups."""
        return FAMILIES[self.block].blocks_per_group(self._size)

    def layers(self, task: Task) -> tuple[Layer, ...]:
        """The layers of this network for a task's input shape and classes, in order of computation.

        Raises:
            InvalidInput: when the task's inputs do not suit the family.
        """
        self.check_suits(task)
        return self.layers_for(task.input_shape, task.classes)

    def layers_for(self, input_shape: Shape, classes: int) -> tuple[Layer, ...]:
        """As ``layers``, whatever the task.

        Raises:
            InvalidInput: when such inputs do not suit the family.
        """
        return FAMILIES[self.block].layers(self._size, input_shape, classes)

    def check_suits(self, task: Task) -> None:
        """Raises InvalidInput when the block kind is none of the task's."""
        if self.block not in task.blocks:
            raise InvalidInput(
                "block", self.block, f"does not suit task {task.name}", f"use one of {', '.join(task.blocks)}"
            )

    def in_small(self) -> tuple[tuple[Architecture, int], ...]:
        """Small networks with factors, whose layers' sums make this one's: see ``Family.in_small``."""
        return tuple(
            (Architecture(self.block, *size), times) for size, times in FAMILIES[self.block].in_small(self._size)
        )

    @property
    def _size(self) -> Size:
        return Size(self.depth, self.width, self.detail)


def _form(family: Family) -> str:
    return f"use {family.block}-{family.form}, e.g. {family.example}"
