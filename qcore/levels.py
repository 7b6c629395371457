"""Level sets: which integer codes a quantizer has, and which multiples of its step size they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

LevelSet: TypeAlias = Literal["symmetric", "twos_complement", "mid_rise"]

LEAST_CLIPPING_VALUE = 1e-5
"""Learned clipping values and step sizes act as if no smaller than this."""


@dataclass(frozen=True)
class Levels:
    """Codes ``lowest`` to ``highest``; code c stands for the value (c + offset) * step.

    >>> [code + weight_levels("mid_rise", 2).offset for code in weight_levels("mid_rise", 2).codes]
    [-1.5, -0.5, 0.5, 1.5]
    """

    lowest: int
    highest: int
    offset: float = 0.0

    @property
    def codes(self) -> range:
        """All of them, rising."""
        return range(self.lowest, self.highest + 1)

    @property
    def bits(self) -> int:
        """That a code takes."""
        return (self.highest - self.lowest).bit_length()

    @property
    def largest_positive(self) -> float:
        """In steps."""
        return self.highest + self.offset

    @property
    def largest_negative(self) -> float:
        """In steps, as a magnitude."""
        return -(self.lowest + self.offset)


def weight_levels(level_set: LevelSet, bits: int) -> Levels:
    """The codes of a weight quantizer.

    - ``symmetric``: -m to m with m = 2^(bits-1) - 1, the paper's Section 2.2; ternary at 2 bits.
    - ``twos_complement``: -2^(bits-1) to 2^(bits-1) - 1, as LSQ has it; -2 to 1 at 2 bits.
    - ``mid_rise``: as many levels, half a step off zero; -1.5, -0.5, 0.5, 1.5 steps at 2 bits, the four-level weights
      of the paper's ImageNet networks (Section 5.3).

    >>> weight_levels("symmetric", 2), weight_levels("twos_complement", 2)
    (Levels(lowest=-1, highest=1, offset=0.0), Levels(lowest=-2, highest=1, offset=0.0))
    """
    half = 2 ** (bits - 1)
    match level_set:
        case "symmetric":
            return Levels(1 - half, half - 1)
        case "twos_complement":
            return Levels(-half, half - 1)
        case "mid_rise":
            return Levels(-half, half - 1, offset=0.5)


def activation_levels(bits: int, *, signed: bool) -> Levels:
    """The codes of an activation quantizer: 0 to 2^bits - 1, or, for signed values, -m to m with m = 2^(bits-1) - 1.

    >>> activation_levels(2, signed=False), activation_levels(8, signed=True)
    (Levels(lowest=0, highest=3, offset=0.0), Levels(lowest=-127, highest=127, offset=0.0))
    """
    if signed:
        return Levels(1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return Levels(0, 2**bits - 1)
