"""What an activation layer does to a value: where it is clipped and to which steps it is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.host_reads import read
from qcore.levels import LEAST_CLIPPING_VALUE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Clipping:
    """y = step * round(clip(z, low, high) / step); without levels it is not rounded.

    With levels, high is PACT's clipping value alpha, step alpha / levels, and low 0 or, if signed, -alpha. Without, low
    is 0 and high the ceiling, if there is one: ReLU and ReLU6.
    """

    levels: int | None
    """Of the largest code: 2^n - 1, or 2^(n-1) - 1 if signed. None in float."""
    signed: bool = False
    ceiling: float | None = None

    def bounds(self, alpha: Tensor | None) -> tuple[float, float, float]:
        """Low, high and step, read from a clipping value on the CPU; a step of 0 where nothing is rounded."""
        if self.levels is None:
            return 0.0, float("inf") if self.ceiling is None else self.ceiling, 0.0
        assert alpha is not None
        high = max(read(alpha, "a clipping value on the CPU"), LEAST_CLIPPING_VALUE)
        return -high if self.signed else 0.0, high, high / self.levels
