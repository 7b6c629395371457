"""Quantizers of weights and activations, with straight-through gradients (paper, Eqs. 1 to 4; PACT, Choi et al. 2018).

Q(x) = step * round(clip(x, alpha, beta) / step). Ties round to even, as in ONNX's QuantizeLinear; Eq. (1) rounds them
up, which differs only where x / step is exactly a half.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from qcore.step_size import l2_optimal_step

LEAST_CLIPPING_VALUE = 1e-5
"""Learned clipping values act as if no smaller than this."""


class _StraightThroughWeight(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, most: int) -> Tensor:  # noqa: ARG004  torch's signature
        return (weight / step).round_().clamp_(-most, most).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ARG004
        return gradients[0], None, None


def quantize_weight(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Weights on the symmetric levels -m..m times ``step``, m = 2^(bits-1) - 1; any shape, ``step`` a scalar.

    The gradient of the quantized weight is handed to the float weight unchanged, clipped ones included (Eqs. 3, 4).

    >>> quantize_weight(torch.tensor([-3.0, -0.4, 0.6]), torch.tensor(1.0), 2)
    tensor([-1., -0.,  1.])
    """
    quantized: Tensor = _StraightThroughWeight.apply(weight, step, 2 ** (bits - 1) - 1)
    return quantized


class _ClippedActivation(Function):
    """PACT: levels 0..2^n-1 between 0 and alpha, or -m..m between -alpha and alpha for signed values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clipping_value: Tensor, levels: int, signed: bool) -> Tensor:
        alpha = clipping_value.clamp_min(LEAST_CLIPPING_VALUE)
        ctx.save_for_backward(x, alpha)
        ctx.signed = signed
        step = (alpha / levels).to(x.dtype)
        return (x / step).round_().clamp_(-levels if signed else 0, levels).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, alpha = ctx.saved_tensors
        gradient = gradients[0]
        above = x >= alpha
        below = x <= (-alpha if ctx.signed else 0)
        of_alpha = (gradient * above).sum(dtype=torch.float32)
        if ctx.signed:
            of_alpha = of_alpha - (gradient * below).sum(dtype=torch.float32)
        return gradient.masked_fill(above | below, 0), of_alpha.reshape_as(alpha), None, None


def quantize_activation(x: Tensor, clipping_value: Tensor, bits: int, *, signed: bool = False) -> Tensor:
    """Activations on 2^bits levels from 0 to alpha (ReLU included), or on 2^bits - 1 levels from -alpha to alpha.

    ``x`` has any shape, ``clipping_value`` alpha is a scalar. The gradient passes exactly on 0 < x < alpha
    (-alpha < x < alpha if signed); alpha's is the sum of the gradient where x >= alpha, less, if signed, the sum
    where x <= -alpha, accumulated in float32.

    >>> quantize_activation(torch.tensor([-1.0, 0.4, 1.2, 9.0]), torch.tensor(3.0), 2)
    tensor([0., 0., 1., 3.])
    """
    levels = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    quantized: Tensor = _ClippedActivation.apply(x, clipping_value, levels, signed)
    return quantized


class WeightQuantizer(nn.Module):
    """A layer's weight quantizer: its step size is a buffer that ``refresh`` sets and training does not learn."""

    step: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("step", torch.ones(()))

    @torch.no_grad()
    def refresh(self, weight: Tensor) -> None:
        """Sets the step to the L2-optimal one of these weights."""
        self.step.copy_(l2_optimal_step(weight, self.bits))

    def forward(self, weight: Tensor) -> Tensor:
        return quantize_weight(weight, self.step, self.bits)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class ActivationQuantizer(nn.Module):
    """An activation layer: ReLU (or identity, if signed) in float, PACT when it has bits.

    While it has a ``calibrating_share`` it passes values as in float, and sets the clipping value that clips that
    share of them at 2 bits, a quarter of it with every further bit.
    """

    def __init__(self, bits: int | None, *, signed: bool) -> None:
        super().__init__()
        self.bits, self.signed = bits, signed
        self.calibrating_share: float | None = None
        if bits is not None:
            self.clipping_value = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.bits is None or self.calibrating_share is not None:
            y = x if self.signed else torch.relu(x)
            if self.calibrating_share is not None and self.bits is not None:
                self._calibrate(y, self.calibrating_share, self.bits)
            return y
        return quantize_activation(x, self.clipping_value, self.bits, signed=self.signed)

    @torch.no_grad()
    def _calibrate(self, y: Tensor, share_at_2_bits: float, bits: int) -> None:
        size = y.detach().abs().flatten().float()
        rank = max(1, round(size.numel() * (1 - share_at_2_bits * 4.0 ** (2 - bits))))
        value = size.kthvalue(rank).values
        # Dead activations have no percentile to go by: any positive value serves.
        self.clipping_value.copy_(torch.where(value > LEAST_CLIPPING_VALUE, value, torch.ones_like(value)))

    def extra_repr(self) -> str:
        return f"bits={self.bits}, signed={self.signed}"
