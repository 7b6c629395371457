"""What memory a device has, and how torch says that it does not suffice."""

from __future__ import annotations

import os

from qcore.limits import memory_limit

MOST_PARTS = 16
"""Into how many parts a batch is divided, at most, to be trained in less memory."""

_SHARED_BYTES = 350_000_000
"""Of a process that trains, in files that others have mapped as well (``RssFile``, torch 2.15 on x86-64)."""
_ON_CPUS = ("DefaultCPUAllocator: ", "could not create a primitive", "could not create a memory object")
"""What torch's allocator says, and oneDNN where it gets no memory; oneDNN says so of other failures too."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: on a GPU, on a CPU, or in Python itself."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _ON_CPUS)


def device_bytes(device: str) -> int | None:
    """All memory of a GPU; or of the machine, within this process's container. None where it is not known.

    Imports torch only for a GPU.
    """
    if device != "cpu":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    limit = memory_limit()
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return limit
    return machine if limit is None else min(machine, limit)


def room_of_each(total: int | None, processes: int) -> int | None:
    """The bytes that each of so many training processes may take of a total; None where that is not known.

    What they load from libraries' files they have in common.

    >>> room_of_each(2_350_000_000, 2)
    1350000000
    """
    return None if total is None else _SHARED_BYTES + max(0, total - _SHARED_BYTES) // processes
