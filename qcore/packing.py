"""How many training runs one machine, or one GPU, should have at a time: measured, not guessed.

Small networks leave most of a GPU idle, and a CPU's second thread helps one run less than a second run would.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from qcore.devices import prepare_device, usable_cores
from qcore.kernels import kernels_of
from qcore.metrics import cross_entropy
from qcore.network import Network
from qcore.numerics import resolve_numerics
from qcore.processes import end_with_parent
from qcore.training_memory import peak_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from qcore.architecture import Architecture
    from qcore.bit_widths import BitWidths
    from qcore.recipe import Recipe
    from qcore.tasks import Task

_WARM_UP_STEPS = 3
_WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Packing:
    """So many workers of so many threads side by side, and what they did together."""

    workers: int
    threads: int
    steps_per_second: float
    """Of all workers."""
    peak_bytes: int
    """Of one worker: on a GPU what torch reserved on it, else the process's resident memory."""

    @property
    def fraction(self) -> float:
        """Of the device, for each worker."""
        return 1 / self.workers


def packings_to_try(device: str) -> tuple[tuple[int, int], ...]:
    """Workers and threads: on a CPU from one worker with all cores to one on each core, on a GPU 1 to 8 workers.

    >>> (1, usable_cores()) in packings_to_try("cpu")
    True
    """
    if device != "cpu":
        return tuple((workers, 1) for workers in (1, 2, 3, 4, 6, 8))
    cores = usable_cores()
    return tuple((workers, cores // workers) for workers in range(1, cores + 1) if cores % workers == 0)


def measure_packing(
    architecture: Architecture,
    task: Task,
    recipe: Recipe,
    bit_widths: BitWidths,
    workers: int,
    *,
    device: str = "cpu",
    threads: int = 1,
    seconds: float = 3.0,
) -> Packing:
    """Trains a network for so many seconds in so many processes at once, on inputs of noise, and counts their steps.

    Raises:
        InvalidInput: for a device, threads or path that this machine does not have.
    """
    prepare_device(device, threads)
    recipe = resolve_numerics(recipe, task, device)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    job = (architecture, task, recipe, bit_widths, device, threads, seconds)
    with context.Pool(workers, initializer=_start_process, initargs=(barrier, os.getpid())) as pool:
        found = pool.map(_train, [job] * workers, chunksize=1)
    return Packing(workers, threads, sum(speed for speed, _ in found), max(peak for _, peak in found))


def best_packing(found: Sequence[Packing], device_bytes: int | None = None) -> Packing:
    """The most steps a second of those whose workers fit the device's memory; within 3 %, the fewest workers.

    >>> alone, pair, crowd = Packing(1, 2, 10.0, 100), Packing(2, 1, 14.0, 100), Packing(4, 1, 14.2, 100)
    >>> best_packing([alone, pair, crowd]) == pair
    True
    >>> best_packing([alone, pair, crowd], device_bytes=150) == alone
    True
    """
    fitting = [each for each in found if device_bytes is None or each.workers * each.peak_bytes <= device_bytes]
    if not fitting:
        return min(found, key=lambda each: each.workers)
    most = max(each.steps_per_second for each in fitting)
    return min((each for each in fitting if each.steps_per_second >= most / 1.03), key=lambda each: each.workers)


def bare_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor, *, bf16: bool = False
) -> None:
    """One optimizer step of a network (N, ...) -> (N, classes), without regularizers, schedule or measurement."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        logits = network(x)
    loss = cross_entropy(logits.float(), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


_in_process: dict[str, Any] = {}


def _start_process(barrier: Any, parent: int) -> None:
    end_with_parent(parent)
    _in_process["barrier"] = barrier


def _train(job: tuple[Architecture, Task, Recipe, BitWidths, str, int, float]) -> tuple[float, int]:
    """Steps a second, and peak bytes, of one worker."""
    architecture, task, recipe, bit_widths, device_name, threads, seconds = job
    device = prepare_device(device_name, threads)
    part = recipe.float_part
    network = Network(architecture.layers(task), bit_widths, recipe.retraining.quantizers)
    network.initialize(torch.Generator().manual_seed(0))
    x = torch.randn(part.batch_size, *task.input_shape)
    labels = (torch.arange(part.batch_size) % task.classes).to(device)
    if not bit_widths.is_float:
        network.start_steps()
        network.calibrate(x, recipe.retraining.quantizers.clipped_share)
    network.to(device).train().fuse(kernels_of(part.path))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, fused=True)
    x = x.to(device)

    step = partial(bare_step, network, optimizer, x, labels, bf16=part.precision == "bf16")
    for _ in range(_WARM_UP_STEPS):
        step()
    _in_process["barrier"].wait(_WAIT_SECONDS)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        count += 1
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return count / (time.perf_counter() - started), torch.cuda.max_memory_reserved(device)
    return count / (time.perf_counter() - started), peak_bytes()
