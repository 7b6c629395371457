"""The device that a process trains on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput
from qcore.limits import whole_cores

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # <malloc.h>
_PATTERN = re.compile(r"cpu|cuda(:\d{1,3})?", re.ASCII)
_MOST_LOADER_PROCESSES = 8
_share_of_cores: int | None = None


def check_device_name(name: str, threads: int) -> None:
    """Refuses what can be no device, without importing torch.

    Raises:
        InvalidInput: for an unknown name or an impossible number of threads.
    """
    if _PATTERN.fullmatch(name) is None:
        raise InvalidInput("device", name, "is not a device", "use cpu, cuda or cuda:<index>")
    cores = usable_cores()
    if not 1 <= threads <= cores:
        raise InvalidInput("threads", threads, "is out of range", f"use 1 to {cores}, the cores that are usable here")


def usable_cores() -> int:
    """Cores that this process may run on, within its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return whole_cores(cores)


def take_share(cores: int) -> None:
    """Says that of this host's cores so many are this process's: others train beside it. For the rest of its life."""
    global _share_of_cores  # the process's own, as the number of torch's threads is
    _share_of_cores = max(1, cores)


def default_loader_processes(device_type: str) -> int:
    """How many processes decode images for one that trains: beside a GPU as many as it has cores, but 8 at most; beside
    training on the CPU, which itself needs the cores, none.
    """
    if device_type == "cpu":
        return 0
    return min(_MOST_LOADER_PROCESSES, _share_of_cores or usable_cores())


def gpus() -> list[str]:
    """The names of this machine's GPUs; imports torch.

    Raises:
        InvalidInput: when it has none that torch can use.
    """
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        problem = "is not here: torch finds no GPU on this machine"
        raise InvalidInput("device", "cuda", problem, "use --device cpu, or install a driver and a torch with CUDA")
    return [f"cuda:{index}" for index in range(count)]


def require_device(name: str, threads: int) -> None:
    """Refuses what is no device of this machine; imports torch only for one that is not the CPU.

    Raises:
        InvalidInput: as ``prepare_device`` does.
    """
    check_device_name(name, threads)
    if name != "cpu":
        prepare_device(name, threads)


def prepare_device(name: str, threads: int) -> torch.device:
    """The torch device of that name, as deterministic as torch can be, with as many threads for work on the CPU.

    Raises:
        InvalidInput: also for a device that this machine does not have.
    """
    check_device_name(name, threads)

    import torch

    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise InvalidInput("device", name, f"is not here: this machine has {count} of them", "use --device cpu")
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # a recipe's fp32 is fp32
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    else:
        _keep_memory()
    torch.set_num_threads(threads)
    return device


def _keep_memory() -> None:
    """Has glibc keep freed memory for the next step. By default it hands every large tensor back to the system, which
    then clears its pages anew: a quarter of a training step's time on CPUs, half with large activations.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
