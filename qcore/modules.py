"""Modules of a network's layers that torch has no module for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
