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
"""Above this many events (weights x m) the sort is given up for alternating minimisation from many starts."""

_STARTS = 64
_ITERATIONS = 50


def l2_optimal_step(weight: Tensor, bits: int) -> Tensor:
    """The step size for symmetric levels of that many bits: a scalar float32 tensor on the weights' device.

    Exact while weights x (2^(bits-1) - 1) is at most ``MOST_EVENTS``, otherwise the best of 64 local minima. All-zero
    (or non-finite) weights get step 1, which quantizes zeros to zeros.
    """
    assert bits >= 2
    size = weight.detach().abs().flatten().double()
    most = 2 ** (bits - 1) - 1
    largest = size.max()
    if not bool(torch.isfinite(largest)) or float(largest) == 0.0:
        return torch.ones((), device=weight.device)
    scaled = size / largest  # squares of huge or tiny weights would leave the range
    step = _exact(scaled, most) if scaled.numel() * most <= MOST_EVENTS else _alternating(scaled, most)
    return (step * largest).float().clamp_min(torch.finfo(torch.float32).tiny)


def _exact(size: Tensor, most: int) -> Tensor:
    code = torch.arange(1, most + 1, dtype=size.dtype, device=size.device)
    event = (size[:, None] / (code - 0.5)).flatten()
    order = event.argsort(descending=True)
    product = size[:, None].expand(-1, most).flatten()[order].cumsum(0)
    square = (2 * code - 1).expand(len(size), -1).flatten()[order].cumsum(0)
    best = (product**2 / square).argmax()
    return product[best] / square[best]


def _alternating(size: Tensor, most: int) -> Tensor:
    """Codes for a step, then the best step for the codes, until nothing moves; from steps spread over the range."""
    best_step, best_error = size.new_tensor(1.0), size.new_tensor(torch.inf)
    for clip in torch.linspace(1 / _STARTS, 1, _STARTS, dtype=size.dtype, device=size.device):
        step = clip / most
        for _ in range(_ITERATIONS):
            code = (size / step).round().clamp(max=most)
            fitted = (size * code).sum() / (code**2).sum().clamp_min(1)
            if bool((fitted - step).abs() <= 1e-9 * step):
                break
            step = fitted
        code = (size / step).round().clamp(max=most)
        error = ((size - step * code) ** 2).sum()
        if bool(error < best_error):
            best_step, best_error = step, error
    return best_step
