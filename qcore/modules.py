"""Modules of a network's layers that torch has no module for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcore.quantizers import ActivationQuantizer


class CappedActivation(ActivationQuantizer):
    """A ReLU with a ceiling (ReLU6) in float and while it is calibrated; PACT, whose clipping value is the ceiling."""

    def __init__(self, bits: int | None, ceiling: float) -> None:
        super().__init__(bits, signed=False)
        self.ceiling = ceiling

    def forward(self, x: Tensor) -> Tensor:
        if self.bits is None or self.calibrating_share is not None:
            x = x.clamp(max=self.ceiling)
        return super().forward(x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ceiling={self.ceiling}"


class Concatenation(nn.Module):
    """(N, c1, h, w), (N, c2, h, w), ... to (N, c1 + c2 + ..., h, w)."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class BilinearResize(nn.Module):
    """(N, c, h, w) to (N, c, height, width); corners coincide."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, self.size, mode="bilinear", align_corners=True)

    def extra_repr(self) -> str:
        return f"size={self.size}"
