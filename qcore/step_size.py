"""The step size of a weight quantizer that minimises the squared error (Hwang and Sung 2014).

For |w| and a step, rounding gives each weight a magnitude of a, a + 1, ... steps, with a = 0, or a half for mid-rise
levels, up to the largest that its sign has. As the step falls, magnitudes rise one at a time: |w| goes from a + j - 1
to a + j where step = |w| / (a + j - 1/2). Between two such events the magnitudes q are fixed, the best step is
sum(|w| q) / sum(q^2), and the error is |w|^2 - sum(|w| q)^2 / sum(q^2). One sort of the events therefore visits every
assignment that any step can give, and the greatest quotient is the global minimum; for ternary weights this is S_k / k
with k maximising S_k^2 / k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from qcore.levels import Levels

MOST_EVENTS = 4_000_000
"""Above this many events (weights x levels a side) weights are first gathered in as many bins as keep within it."""

_LEAST_BINS = 8192
_REFINEMENTS = 8


def l2_optimal_step(weight: Tensor, levels: Levels) -> Tensor:
    """The step size that quantizes weights of any shape with the least squared error: Eq. (1)'s delta, fitted to them.

    It minimises ||w - Q(w)||^2, as Hwang and Sung (2014) do, whose weight quantization the paper adopts (Section 2.2).

    A scalar float32 tensor on the weights' device, found without waiting for that device. Exact while weights x levels
    a side is at most ``MOST_EVENTS``. Above, exact for the weights gathered in bins much finer than a step, then
    improved on the weights themselves. All-zero (or non-finite) weights get step 1.

    >>> from qcore.levels import Levels
    >>> l2_optimal_step(torch.tensor([1.0, -0.9, 0.1]), Levels(-1, 1))  # 0.1 becomes zero
    tensor(0.9500)
    """
    flat = weight.detach().flatten().double()
    size = flat.abs()
    largest = size.max()
    usable = largest.isfinite() & (largest > 0)
    scaled = torch.where(usable, size / largest, 0.0)  # squares of huge or tiny weights would leave the range
    reach = torch.where(flat < 0, levels.largest_negative, levels.largest_positive)
    least = abs(levels.offset)
    sides = round(max(levels.largest_negative, levels.largest_positive) - least)
    if scaled.numel() * sides <= MOST_EVENTS:
        step = _exact(scaled, torch.ones_like(scaled), reach, least, sides)
    else:
        bins = max(_LEAST_BINS, MOST_EVENTS // (2 * sides))
        step = _exact(*_binned(scaled, flat < 0, bins, levels), least, sides)
        for _ in range(_REFINEMENTS):  # magnitudes for the step, then the best step for the magnitudes
            magnitude = ((scaled / step - least).round().clamp_min(0) + least).minimum(reach)
            step = (scaled * magnitude).sum() / (magnitude**2).sum()
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(usable, (step * largest).float().clamp_min(tiny), 1.0)


def _exact(size: Tensor, count: Tensor, reach: Tensor, least: float, sides: int) -> Tensor:
    """The best step for sizes that stand for ``count`` weights each, of magnitudes ``least`` to ``reach``."""
    magnitude = least + torch.arange(1, sides + 1, dtype=size.dtype, device=size.device)
    counted = (magnitude <= reach[:, None]) * count[:, None]
    event = (size[:, None] / (magnitude - 0.5)).flatten()
    order = event.argsort(descending=True)
    product = (size[:, None] * counted).flatten()[order].cumsum(0)
    square = ((2 * magnitude - 1) * counted).flatten()[order].cumsum(0)
    if least:  # at a step beyond all weights they have the least magnitude, not zero
        none = torch.zeros(1, dtype=size.dtype, device=size.device)
        product = torch.cat([none, product]) + least * (size * count).sum()
        square = torch.cat([none, square]) + least**2 * count.sum()
    best = (product**2 / square).nan_to_num(0.0).argmax()
    return product.take(best) / square.take(best)  # an index in brackets would be read back


def _binned(size: Tensor, negative: Tensor, bins: int, levels: Levels) -> tuple[Tensor, Tensor, Tensor]:
    """Means, counts and reach of values in 0..1, bin by bin, positive and negative ones apart; empty bins count 0."""
    index = (size * bins).long().clamp_(max=bins - 1) + bins * negative
    count = torch.zeros(2 * bins, dtype=size.dtype, device=size.device).index_add_(0, index, torch.ones_like(size))
    total = torch.zeros(2 * bins, dtype=size.dtype, device=size.device).index_add_(0, index, size)
    reach = torch.full_like(count, levels.largest_positive)
    reach[bins:] = levels.largest_negative
    return total / count.clamp_min(1), count, reach
