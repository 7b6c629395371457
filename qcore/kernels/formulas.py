"""What the fused kernels compute, in torch's own operations: compiled where there is a GPU, and what C++ is held to.

Tensors are (N, C, ...); statistics and factors (C,) in float32. All is computed in float32 whatever the values' type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from qcore.levels import LEAST_CLIPPING_VALUE

if TYPE_CHECKING:
    from torch import Tensor

    from qcore.kernels.clipping import Clipping


def batch_norm_clip_forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    epsilon: float,
    alpha: Tensor | None,
    clipping: Clipping,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalization over the batch, plus a residual, clipped and rounded; updates the running statistics.

    Answers the output, the batch's mean and the inverse of its deviation, which backward needs.
    """
    axes, count = _axes(x), x.numel() // x.shape[1]
    variance, mean = torch.var_mean(x.float(), axes, correction=0)
    deviation = torch.rsqrt(variance + epsilon)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * (count / max(1, count - 1)), momentum)
    z = _normalized(x, residual, weight, bias, mean, deviation)
    return _rounded(z, alpha, clipping).to(x.dtype), mean, deviation


def batch_norm_clip_evaluate(
    x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, alpha: Tensor | None, clipping: Clipping
) -> Tensor:
    """As in evaluation, where batch normalization is a scale and a shift a channel."""
    z = x.float() * _by_channel(scale, x) + _by_channel(shift, x)
    return _rounded(z if residual is None else z + residual.float(), alpha, clipping).to(x.dtype)


def batch_norm_clip_backward(
    gradient: Tensor,
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    deviation: Tensor,
    alpha: Tensor | None,
    clipping: Clipping,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """The gradients of input, residual, weight, bias and alpha: what was clipped is computed again from the input."""
    axes, count = _axes(x), x.numel() // x.shape[1]
    z = _normalized(x, residual, weight, bias, mean, deviation)
    passed, of_alpha = _passed(gradient.float(), _where(z, alpha, clipping), clipping)
    normalized = (x.float() - _by_channel(mean, x)) * _by_channel(deviation, x)
    of_bias, of_weight = passed.sum(axes), (passed * normalized).sum(axes)
    centered = passed - _by_channel(of_bias / count, x) - normalized * _by_channel(of_weight / count, x)
    of_x = (centered * _by_channel(weight * deviation, x)).to(x.dtype)
    return of_x, None if residual is None else passed.to(x.dtype), of_weight, of_bias, of_alpha


def clip_forward(a: Tensor, b: Tensor | None, alpha: Tensor, clipping: Clipping) -> tuple[Tensor, Tensor]:
    """The sum of ``a`` and ``b``, if there is one, clipped and rounded; and a byte for every value that says where it
    lay: 1 inside, 2 at or above the clipping value, 0 at or below the lower one.
    """
    z = a.float() if b is None else a.float() + b.float()
    return _rounded(z, alpha, clipping).to(a.dtype), _where(z, alpha, clipping)


def clip_backward(gradient: Tensor, where: Tensor, clipping: Clipping) -> tuple[Tensor, Tensor]:
    """The gradients of the sum, or its terms, and of alpha."""
    passed, of_alpha = _passed(gradient.float(), where, clipping)
    return passed.to(gradient.dtype), of_alpha


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def _normalized(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor
) -> Tensor:
    # The mean is taken off first: with a shift of bias - mean * scale, large values would cancel, and leave rounding.
    z = (x.float() - _by_channel(mean, x)) * _by_channel(weight * deviation, x) + _by_channel(bias, x)
    return z if residual is None else z + residual.float()


def _bounds(alpha: Tensor | None, clipping: Clipping) -> tuple[Tensor | float, Tensor | float | None]:
    if clipping.levels is None:
        return 0.0, clipping.ceiling
    assert alpha is not None
    high = alpha.clamp_min(LEAST_CLIPPING_VALUE)
    return -high if clipping.signed else 0.0, high


def _rounded(z: Tensor, alpha: Tensor | None, clipping: Clipping) -> Tensor:
    low, high = _bounds(alpha, clipping)
    clipped = (
        torch.where(z < low, low, z) if high is None else torch.where(z > high, high, torch.where(z < low, low, z))
    )
    if clipping.levels is None:
        return clipped
    assert isinstance(high, torch.Tensor)
    step = high / clipping.levels
    return (clipped / step).round() * step


def _where(z: Tensor, alpha: Tensor | None, clipping: Clipping) -> Tensor:
    low, high = _bounds(alpha, clipping)
    not_below = (~(z <= low)).to(torch.uint8)  # what is no number lies inside
    return not_below if high is None else not_below + (z >= high).to(torch.uint8)


def _passed(gradient: Tensor, where: Tensor, clipping: Clipping) -> tuple[Tensor, Tensor]:
    """The gradient where nothing was clipped, and alpha's."""
    of_alpha = torch.where(where == 2, gradient, 0).sum()
    if clipping.signed:
        of_alpha = of_alpha - torch.where(where == 0, gradient, 0).sum()
    return torch.where(where == 1, gradient, 0), of_alpha
