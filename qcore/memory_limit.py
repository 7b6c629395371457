"""A limit on the memory that a block of code may take beyond what its process has; where Linux enforces one."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATM = Path("/proc/self/statm")
_DATA_PAGES = 5
"""The field of ``statm`` that ``RLIMIT_DATA`` limits."""
_limiting = threading.Lock()


@contextlib.contextmanager
def at_most(extra_bytes: int) -> Iterator[None]:
    """Has allocations fail inside the block once the process has taken so many bytes more than it had before.

    It is the whole process's limit: not for one that serves others meanwhile. Only Linux has one.

    Raises:
        MemoryError: where more would be taken.
    """
    if sys.platform != "linux":
        yield
        return
    with _limiting:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(_STATM.read_text().split()[_DATA_PAGES]) * resource.getpagesize() + extra_bytes
        if any(limit >= each for each in (soft, hard) if each != resource.RLIM_INFINITY):
            yield  # a tighter one holds already
            return
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
