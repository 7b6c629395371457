"""The step size of a weight quantizer that minimises the squared error (Hwang and Sung 2014).

For |w| and a step, rounding gives each weight an integer code 0..m with m = 2^(n-1) - 1. As the step falls, codes rise
one at a time: |w| goes from j - 1 to j where step = |w| / (j - 1/2). Between two such events the codes q are fixed, the
best step is sum(|w| q) / sum(q^2), and the error is |w|^2 - sum(|w| q)^2 / sum(q^2). One sort of the events therefore
visits every assignment that any step can give, and the greatest quotient is the global minimum; at 2 bits this is
S_k / k with k maximising S_k^2 / k.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_EVENTS = 4_000_000
"""Above this many events (weights x m) weights are first gathered in as many bins as keep within it."""

_LEAST_BINS = 8192
_ITERATIONS = 50


def l2_optimal_step(weight: Tensor, bits: int) -> Tensor:
    """The step size for symmetric levels of that many bits: a scalar float32 tensor on the weights' device.

    Exact while weights x (2^(bits-1) - 1) is at most ``MOST_EVENTS``. Above, exact for the weights gathered in bins
    much finer than a step, then improved on the weights themselves. All-zero (or non-finite) weights get step 1,
    which quantizes zeros to zeros.
    """
    assert bits >= 2
    size = weight.detach().abs().flatten().double()
    most = 2 ** (bits - 1) - 1
    largest = size.max()
    if not bool(torch.isfinite(largest)) or float(largest) == 0.0:
        return torch.ones((), device=weight.device)
    scaled = size / largest  # squares of huge or tiny weights would leave the range
    if scaled.numel() * most <= MOST_EVENTS:
        step = _exact(scaled, torch.ones_like(scaled), most)
    else:
        step = _alternating(scaled, _exact(*_binned(scaled, max(_LEAST_BINS, MOST_EVENTS // most)), most), most)
    return (step * largest).float().clamp_min(torch.finfo(torch.float32).tiny)


def _exact(size: Tensor, count: Tensor, most: int) -> Tensor:
    """The best step for values that stand for ``count`` weights each."""
    code = torch.arange(1, most + 1, dtype=size.dtype, device=size.device)
    event = (size[:, None] / (code - 0.5)).flatten()
    order = event.argsort(descending=True)
    product = (size * count)[:, None].expand(-1, most).flatten()[order].cumsum(0)
    square = (count[:, None] * (2 * code - 1)).flatten()[order].cumsum(0)
    best = (product**2 / square).argmax()
    return product[best] / square[best]


def _binned(size: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Means and counts of values in 0..1, bin by bin; empty bins are left out."""
    index = (size * bins).long().clamp_(max=bins - 1)
    count = torch.zeros(bins, dtype=size.dtype, device=size.device).index_add_(0, index, torch.ones_like(size))
    total = torch.zeros(bins, dtype=size.dtype, device=size.device).index_add_(0, index, size)
    held = count > 0
    return total[held] / count[held], count[held]


def _alternating(size: Tensor, step: Tensor, most: int) -> Tensor:
    """Codes for a step, then the best step for the codes, until nothing moves; the error never rises."""
    for _ in range(_ITERATIONS):
        code = (size / step).round().clamp(max=most)
        fitted = (size * code).sum() / (code**2).sum()
        if bool((fitted - step).abs() <= 1e-12 * step):
            break
        step = fitted
    return step
