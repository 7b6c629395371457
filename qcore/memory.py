"""What memory a device has, and how torch says that it does not suffice."""

from __future__ import annotations

import os

MOST_PARTS = 16
"""Into how many parts a batch is divided, at most, to be trained in less memory."""

_ON_CPUS = ("DefaultCPUAllocator: ", "could not create a primitive", "could not create a memory object")
"""What torch's allocator says, and oneDNN where it gets no memory; oneDNN says so of other failures too."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: on a GPU, on a CPU, or in Python itself."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _ON_CPUS)


def device_bytes(device: str) -> int | None:
    """All memory of a GPU, or of the machine; None where it is not known. Imports torch only for a GPU."""
    if device != "cpu":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
