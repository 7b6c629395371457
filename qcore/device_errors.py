"""How torch says that a GPU, or this process's context on it, is of no more use. Imports no torch."""

from __future__ import annotations

import sys

from qcore.memory import is_out_of_memory

_TOLD = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS", "device-side assert")


def is_device_failure(error: BaseException) -> bool:
    """Whether an exception says that this process can use its GPU no more, which is no lack of memory."""
    torch = sys.modules.get("torch")
    if torch is None or is_out_of_memory(error):
        return False
    of_device = getattr(torch, "AcceleratorError", ())
    return isinstance(error, of_device) or (
        isinstance(error, RuntimeError) and any(each in str(error) for each in _TOLD)
    )
