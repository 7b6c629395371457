"""The fused passes as differentiable functions of tensors, whichever kernels compute them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from torch import Tensor, nn

    from qcore.kernels.clipping import Clipping


@dataclass(frozen=True)
class Kernels:
    """What computes the passes; each is called, and answers, as the function of that name in ``formulas``."""

    batch_norm_clip_forward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    batch_norm_clip_evaluate: Callable[..., Tensor]
    batch_norm_clip_backward: Callable[..., tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]]
    clip_forward: Callable[..., tuple[Tensor, Tensor]]
    clip_backward: Callable[..., tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, module: ModuleType) -> Kernels:
        """The functions of those names that a module has."""
        return cls(*(getattr(module, each.name) for each in fields(cls)))


class _BatchNormClip(Function):
    """Keeps only its inputs, which convolutions and shortcuts around it keep too, and computes the rest again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        alpha: Tensor | None,
        norm: nn.BatchNorm2d,
        clipping: Clipping,
        kernels: Kernels,
    ) -> Tensor:
        x = _dense(x)
        residual = None if residual is None else _dense(residual, x.dtype)
        statistics = (norm.running_mean, norm.running_var, norm.momentum, norm.eps)
        y, mean, deviation = kernels.batch_norm_clip_forward(x, residual, weight, bias, *statistics, alpha, clipping)
        ctx.save_for_backward(x, residual, weight, bias, mean, deviation, alpha)
        ctx.clipping, ctx.kernels = clipping, kernels
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, weight, bias, mean, deviation, alpha = ctx.saved_tensors
        of_x, of_residual, of_weight, of_bias, of_alpha = ctx.kernels.batch_norm_clip_backward(
            _dense(gradients[0], x.dtype), x, residual, weight, bias, mean, deviation, alpha, ctx.clipping
        )
        of_alpha = None if alpha is None else of_alpha.reshape_as(alpha)
        return of_x, of_residual, of_weight, of_bias, of_alpha, None, None, None


class _Clip(Function):
    """Keeps a byte for every value instead of the value."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None, alpha: Tensor, clipping: Clipping, kernels: Kernels) -> Tensor:
        a = _dense(a)
        b = None if b is None else _dense(b, a.dtype)
        y, where = kernels.clip_forward(a, b, alpha, clipping)
        ctx.save_for_backward(where, alpha)
        ctx.clipping, ctx.kernels, ctx.is_sum, ctx.dtype = clipping, kernels, b is not None, a.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        where, alpha = ctx.saved_tensors
        passed, of_alpha = ctx.kernels.clip_backward(_dense(gradients[0], ctx.dtype), where, ctx.clipping)
        return passed, passed if ctx.is_sum else None, of_alpha.reshape_as(alpha), None, None


def batch_norm_clip(
    x: Tensor,
    residual: Tensor | None,
    norm: nn.BatchNorm2d,
    alpha: Tensor | None,
    clipping: Clipping,
    kernels: Kernels,
) -> Tensor:
    """``x`` (N, C, height, width), normalized as ``norm`` does, plus the residual, clipped.

    Weights, statistics and ``alpha`` are float32; the output is of x's type, float32 or bfloat16. In evaluation there
    is no gradient.
    """
    assert norm.num_batches_tracked is not None
    if not norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            x = _dense(x)
            other = None if residual is None else _dense(residual, x.dtype)
            return kernels.batch_norm_clip_evaluate(x, other, scale, shift, alpha, clipping)
    norm.num_batches_tracked.add_(1)
    y: Tensor = _BatchNormClip.apply(x, residual, norm.weight, norm.bias, alpha, norm, clipping, kernels)
    return y


def clip(a: Tensor, b: Tensor | None, alpha: Tensor, clipping: Clipping, kernels: Kernels) -> Tensor:
    """``a``, or the sum of ``a`` and ``b`` of one shape, clipped to and rounded within ``alpha``, a float32 scalar."""
    y: Tensor = _Clip.apply(a, b, alpha, clipping, kernels)
    return y


def _dense(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Channels last, where there are images; kernels walk memory from end to end."""
    x = x if dtype is None else x.to(dtype)
    return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.contiguous_format)
