"""Quantizers of weights and activations, with straight-through gradients (paper, Eqs. 1 to 4).

Q(x) = step * round(clip(x, alpha, beta) / step). Ties round to even, as in ONNX's QuantizeLinear; Eq. (1) rounds them
up, which differs only where x / step is exactly a half. Step sizes come from the L2-optimal fit of the weights
(Hwang and Sung 2014), from PACT's learned clipping values (Choi et al. 2018), or are learned (LSQ, Esser et al. 2020).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from qcore.host_reads import read
from qcore.levels import LEAST_CLIPPING_VALUE, Levels, activation_levels
from qcore.step_size import l2_optimal_step


class _StraightThroughWeight(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, levels: Levels) -> Tensor:  # noqa: ARG004  torch's signature
        return _rounded(weight, step, levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ARG004
        return gradients[0], None, None


def quantize_weight(weight: Tensor, step: Tensor, levels: Levels) -> Tensor:
    """Weights, of any shape, on the given levels times ``step``, a scalar.

    The gradient of the quantized weight is handed to the float weight unchanged, clipped ones included (Eqs. 3, 4).

    >>> quantize_weight(torch.tensor([-3.0, -0.4, 0.6]), torch.tensor(1.0), Levels(-1, 1))
    tensor([-1., -0.,  1.])
    >>> quantize_weight(torch.tensor([-3.0, -0.4, 0.6]), torch.tensor(1.0), Levels(-2, 1, offset=0.5))
    tensor([-1.5000, -0.5000,  0.5000])
    """
    quantized: Tensor = _StraightThroughWeight.apply(weight, step, levels)
    return quantized


class _StraightThroughWeights(Function):
    @staticmethod
    def forward(
        ctx: Any, steps: list[Tensor], levels: list[Levels], dtype: torch.dtype, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.dtypes = [weight.dtype for weight in weights]
        quantized = (_rounded(*each) for each in zip(weights, steps, levels, strict=True))
        return tuple(weight.to(dtype) for weight in quantized)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(each.to(dtype) for each, dtype in zip(gradients, ctx.dtypes, strict=True))


def quantize_weights(
    weights: list[Tensor], steps: list[Tensor], levels: list[Levels], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """All of a network's weights as ``quantize_weight`` quantizes each, in one call; the results in ``dtype``."""
    quantized: tuple[Tensor, ...] = _StraightThroughWeights.apply(steps, levels, dtype, *weights)
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
        if x.is_cpu:
            return *_of_clipped_on_cpu(gradient, x, alpha, signed=ctx.signed), None, None
        above = x >= alpha
        below = x <= (-alpha if ctx.signed else 0)
        of_alpha = (gradient * above).sum(dtype=torch.float32)
        if ctx.signed:
            of_alpha = of_alpha - (gradient * below).sum(dtype=torch.float32)
        return gradient.masked_fill(above | below, 0), of_alpha.reshape_as(alpha), None, None


def _of_clipped_on_cpu(gradient: Tensor, x: Tensor, alpha: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """The gradients of ``_ClippedActivation`` by kernels that take a number and are several times as fast as masks."""
    largest = alpha.to(x.dtype)
    just_below = read(torch.nextafter(largest, torch.zeros_like(largest)), "a clipping value on the CPU")
    high = read(largest, "a clipping value on the CPU")
    passed = torch.ops.aten.hardtanh_backward(gradient, x, -high if signed else 0.0, high)
    of_alpha = torch.ops.aten.threshold_backward(gradient, x, just_below).sum(dtype=torch.float32)
    if signed:
        of_alpha = of_alpha - torch.ops.aten.threshold_backward(gradient, -x, just_below).sum(dtype=torch.float32)
    return passed, of_alpha.reshape_as(alpha)


def quantize_activation(x: Tensor, clipping_value: Tensor, bits: int, *, signed: bool = False) -> Tensor:
    """PACT (Choi et al. 2018): Eq. (1) with a learned clipping value alpha, which is the paper's upper bound beta.

    Activations are on 2^bits levels from 0 to alpha (ReLU included) or, if signed, on 2^bits - 1 from -alpha to alpha.

    ``x`` has any shape, ``clipping_value`` alpha is a scalar. The gradient passes exactly on 0 < x < alpha. For signed
    values, which PACT does not treat, it passes exactly on -alpha < x < alpha. Alpha's gradient is the sum of the
    gradient where x >= alpha, less, if signed, the sum where x <= -alpha, accumulated in float32.

    >>> quantize_activation(torch.tensor([-1.0, 0.4, 1.2, 9.0]), torch.tensor(3.0), 2)
    tensor([0., 0., 1., 3.])
    """
    highest = activation_levels(bits, signed=signed).highest
    quantized: Tensor = _ClippedActivation.apply(x, clipping_value, highest, signed)
    return quantized


class _LearnedStep(Function):
    """LSQ, Eqs. 1 to 5 of Esser et al. 2020."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, levels: Levels, count: int) -> Tensor:
        step = step.clamp_min(LEAST_CLIPPING_VALUE)
        ctx.save_for_backward(x, step)
        ctx.levels, ctx.count = levels, count
        return _rounded(x, step.to(x.dtype), levels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, step = ctx.saved_tensors
        levels, gradient = ctx.levels, gradients[0]
        steps = x / step.to(x.dtype)
        inside = (steps > -levels.largest_negative) & (steps < levels.largest_positive)
        rounded = (steps - levels.offset).round_().clamp_(levels.lowest, levels.highest).add_(levels.offset)
        slope = torch.where(inside, rounded - steps, rounded)
        scale = 1 / math.sqrt(ctx.count * levels.largest_positive)
        of_step = (gradient * slope).sum(dtype=torch.float32) * scale
        return gradient * inside, of_step.reshape_as(step), None, None


def quantize_with_learned_step(x: Tensor, step: Tensor, levels: Levels, count: int | None = None) -> Tensor:
    """LSQ: values of any shape on the given levels times ``step``, a scalar that the loss's gradient trains.

    The gradient passes strictly between the outermost levels. The step's is the sum of the gradient times
    Q(x)/step - x/step there and times the outermost level, in steps, beyond; scaled by 1/sqrt(count x largest level)
    and accumulated in float32. ``count`` is LSQ's N: all values if not given, which is right for weights; for
    activations the features of one example. For unsigned levels ReLU is included.

    >>> quantize_with_learned_step(torch.tensor([-1.0, 0.4, 1.2, 9.0]), torch.tensor(1.0), Levels(0, 3))
    tensor([0., 0., 1., 3.])
    """
    quantized: Tensor = _LearnedStep.apply(x, step, levels, x.numel() if count is None else count)
    return quantized


def _rounded(x: Tensor, step: Tensor, levels: Levels) -> Tensor:
    if levels.offset == 0:
        return (x / step).round_().clamp_(levels.lowest, levels.highest).mul_(step)
    codes = (x / step).sub_(levels.offset).round_().clamp_(levels.lowest, levels.highest)
    return codes.add_(levels.offset).mul_(step)


def initial_learned_step(x: Tensor, levels: Levels) -> Tensor:
    """Where LSQ starts: 2 mean|x| / sqrt(largest level), or 1 where all values are zero; a float32 scalar."""
    step = 2 * x.detach().abs().float().mean() / math.sqrt(levels.largest_positive)
    return torch.where(step > LEAST_CLIPPING_VALUE, step, 1.0)


class WeightQuantizer(nn.Module):
    """A layer's weight quantizer.

    Its ``step`` size, a float32 scalar, is a buffer that ``refresh`` fits to the weights or, if ``learned``, a
    parameter.
    """

    step: Tensor

    def __init__(self, levels: Levels, *, learned: bool = False) -> None:
        super().__init__()
        self.levels, self.learned = levels, learned
        if learned:
            self.step = nn.Parameter(torch.ones(()))
        else:
            self.register_buffer("step", torch.ones(()))

    @torch.no_grad()
    def refresh(self, weight: Tensor) -> None:
        """Sets the step to the L2-optimal one of these weights."""
        self.step.copy_(l2_optimal_step(weight, self.levels))

    @torch.no_grad()
    def start(self, weight: Tensor) -> None:
        """Sets the step that training begins with."""
        if self.learned:
            self.step.copy_(initial_learned_step(weight, self.levels))
        else:
            self.refresh(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Weights of any shape on their levels, with the gradient that comes with where the step is from."""
        if self.learned:
            return quantize_with_learned_step(weight, self.step, self.levels)
        return quantize_weight(weight, self.step, self.levels)

    def extra_repr(self) -> str:
        """What torch prints of it."""
        return f"{self.levels}, learned={self.learned}"


class ActivationQuantizer(nn.Module):
    """An activation layer: ReLU (or identity, if signed) in float, up to a ``ceiling`` if it has one (ReLU6).

    With bits it is PACT, with a parameter ``clipping_value``, or, if ``learned``, LSQ with a parameter ``step``; either
    takes the ceiling's place. While it has a ``calibrating_share`` it passes values as in float, and starts its
    parameter from them: the clipping value so that it clips that share of them at 2 bits, a quarter of it with every
    further bit.
    """

    def __init__(self, bits: int | None, *, signed: bool, learned: bool = False, ceiling: float | None = None) -> None:
        super().__init__()
        self.bits, self.signed, self.learned, self.ceiling = bits, signed, learned, ceiling
        self.levels = None if bits is None else activation_levels(bits, signed=signed)
        self.calibrating_share: float | None = None
        if bits is not None:
            self.register_parameter("step" if learned else "clipping_value", nn.Parameter(torch.ones(())))

    def step_size(self) -> Tensor:
        """The distance of two levels, a float32 scalar; only with bits."""
        assert self.levels is not None
        if self.learned:
            return self.get_parameter("step").clamp_min(LEAST_CLIPPING_VALUE)
        return self.get_parameter("clipping_value").clamp_min(LEAST_CLIPPING_VALUE) / self.levels.highest

    def forward(self, x: Tensor) -> Tensor:
        """Activations of any shape, clipped and on their levels; while calibrating, as in float."""
        if self.bits is None or self.calibrating_share is not None:
            y = x if self.signed else torch.relu(x)
            if self.ceiling is not None:
                y = y.clamp(max=self.ceiling)
            if self.calibrating_share is not None:
                self._calibrate(y, self.calibrating_share)
            return y
        if self.learned:
            assert self.levels is not None
            return quantize_with_learned_step(x, self.get_parameter("step"), self.levels, count=x[0].numel())
        return quantize_activation(x, self.get_parameter("clipping_value"), self.bits, signed=self.signed)

    @torch.no_grad()
    def _calibrate(self, y: Tensor, share_at_2_bits: float) -> None:
        if self.bits is None or self.levels is None:
            return
        if self.learned:
            self.get_parameter("step").copy_(initial_learned_step(y, self.levels))
            return
        size = y.detach().abs().flatten().float()
        rank = max(1, round(size.numel() * (1 - share_at_2_bits * 4.0 ** (2 - self.bits))))
        value = size.kthvalue(rank).values
        # Dead activations have no percentile to go by: any positive value serves.
        start = torch.where(value > LEAST_CLIPPING_VALUE, value, torch.ones_like(value))
        self.get_parameter("clipping_value").copy_(start)

    def extra_repr(self) -> str:
        """What torch prints of it."""
        return f"bits={self.bits}, signed={self.signed}, learned={self.learned}"
