"""The formulas through torch's compiler, for GPUs: Triton kernels there, C++ on a CPU.

They are compiled for any shape, once for each kind of pass: no candidate of a search waits for a compiler because it is
wider, deeper or of other bits than the one before. What was compiled stays in the user's cache.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from platformdirs import user_cache_path

from qcore.kernels import formulas
from qcore.kernels.clipping import Clipping
from qcore.kernels.functions import Kernels

if TYPE_CHECKING:
    from collections.abc import Callable


_MOST_KINDS = 128


@cache
def compiled_kernels(backend: str = "inductor") -> Kernels:
    """The kernels; each is compiled when it is first called with values of a kind."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache_path("quantrank") / "inductor"))
    # Kinds of passes, not shapes: signed or not, with a shortcut or not, in fp32 or bf16, ... It is 8 otherwise.
    torch._dynamo.config.recompile_limit = max(_MOST_KINDS, torch._dynamo.config.recompile_limit)
    return Kernels(
        _compiled(formulas.batch_norm_clip_forward, backend),
        _compiled(formulas.batch_norm_clip_evaluate, backend),
        _compiled(formulas.batch_norm_clip_backward, backend),
        _compiled(formulas.clip_forward, backend),
        _compiled(formulas.clip_backward, backend),
    )


def _compiled(formula: Callable[..., Any], backend: str) -> Callable[..., Any]:
    def with_plain_arguments(*arguments: Any, levels: int | None, signed: bool, ceiling: float | None) -> Any:
        return formula(*arguments, Clipping(levels, signed, ceiling))

    compiled = torch.compile(with_plain_arguments, dynamic=True, fullgraph=True, backend=backend)

    def call(compiled: Callable[..., Any], *arguments: Any) -> Any:
        *tensors, clipping = arguments
        # The compiler takes a parameter's shape, but not a tensor's, for one that never changes.
        tensors = [each.detach() if isinstance(each, torch.Tensor) else each for each in tensors]
        return compiled(*tensors, levels=clipping.levels, signed=clipping.signed, ceiling=clipping.ceiling)

    return partial(call, compiled)
