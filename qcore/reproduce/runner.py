"""Trains the stages an experiment needs, in processes of one thread each; none that is stored is trained again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Protocol

import torch

from qcore.bit_widths import FLOAT
from qcore.checkpoints import CheckpointFile
from qcore.data import Data, load_data
from qcore.devices import prepare_device
from qcore.errors import DataMissing, InvalidInput
from qcore.numerics import resolve_numerics
from qcore.processes import end_with_parent
from qcore.provenance import provenance
from qcore.reproduce.estimate import stage_seconds, wall_seconds
from qcore.reproduce.experiment import Results, TrainedStage
from qcore.reproduce.store import checkpoint_path, read_stage, read_state, write_stage
from qcore.starting_network import resolve_checkpoint, starting_network
from qcore.training import train_stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qcore.reproduce.experiment import Plan, Variant
    from qcore.stages import Stage
    from qcore.tasks import Task
    from qcore.training import CurvePoint, State

_POLL_SECONDS = 0.5
_CPU = torch.device("cpu")


class Progress(Protocol):
    """What is told while stages are trained."""

    def start(self, stages: int, stored: int, seconds: float, workers: int) -> None:
        """Before the first stage: how many there are, how many of them are stored, how long the others may take."""

    def advance(self, share: float, seconds_left: float) -> None:
        """The share of the work that is done, and how much longer it takes at the speed so far."""

    def trained(self, label: str, result: TrainedStage) -> None:
        """A stage has ended; ``Plan.label`` says which."""


def run(plan: Plan, folder: Path, data_root: Path, workers: int, progress: Progress) -> Results:
    """Trains what is not stored under ``folder`` yet, float stages before those that start from them.

    Interrupted, it leaves every finished stage and the checkpoints of the others; run again, it goes on from there.

    Raises:
        DataMissing: when the task's data set is not below ``data_root``.
        OSError: when nothing can be written to ``folder``; before anything is estimated.
        InvalidInput: when the plan's scale is none to train at; before anything is estimated.
    """
    plan = _resolved(plan, data_root)
    queue = _Queue(plan, folder)
    seconds = wall_seconds(list(queue.cost.values()), workers)
    progress.start(len(queue.stages), len(queue.trained), seconds, workers)
    if queue.waiting:
        plan.task.check(data_root)
        _check_checkpoints(plan, data_root)
        tracker = _Tracker(queue, progress)
        if workers == 1:
            _run_here(queue, folder, data_root, tracker)
        else:
            _run_in_processes(queue, folder, data_root, workers, tracker)
    return Results(plan, queue.trained, data_root)


class _Queue:
    """Stages that wait for a process; a quantized one only once its float stage has ended."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.stages = {stage.key: stage for stage in plan.stages()}
        self.trained: dict[str, TrainedStage] = {}
        for key, stage in self.stages.items():  # float stages come before those that start from them
            of_float = self.trained.get(_float(stage))
            if of_float is not None and of_float.status == "diverged":
                self.trained[key] = _never_trained(stage, of_float)
            elif (found := read_stage(folder, stage)) is not None:
                self.trained[key] = found
        self.waiting = {key: stage for key, stage in self.stages.items() if key not in self.trained}
        if self.waiting and not plan.trains:  # before networks are timed for an estimate that nobody needs
            raise InvalidInput("scale", plan.scale, f"is none to train on {plan.task.name} at", "use --scale paper")
        if self.waiting:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):  # fails now where nothing could be stored in the end
                pass
        self.cost = {key: stage_seconds(stage) for key, stage in self.waiting.items()}

    def take(self) -> Stage | None:
        """The longest piece of work that can start, a float stage counting with those that wait for it."""
        ready = [stage for stage in self.waiting.values() if stage.bit_widths.is_float or _float(stage) in self.trained]
        if not ready:
            return None
        chosen = max(ready, key=self._chain_cost)
        del self.waiting[chosen.key]
        return chosen

    def skip_diverged(self, stage: Stage, result: TrainedStage) -> list[tuple[Stage, TrainedStage]]:
        """There is nothing to retrain from where the float stage diverged."""
        if not stage.bit_widths.is_float or result.status != "diverged":
            return []
        skipped = [each for each in self.waiting.values() if _float(each) == stage.key]
        for each in skipped:
            del self.waiting[each.key]
        return [(each, _never_trained(each, result)) for each in skipped]

    def _chain_cost(self, stage: Stage) -> float:
        cost = self.cost[stage.key]
        if stage.bit_widths.is_float:
            cost += sum(self.cost[key] for key, each in self.waiting.items() if _float(each) == stage.key != key)
        return cost


def _never_trained(stage: Stage, of_float: TrainedStage) -> TrainedStage:
    """The end of a stage whose float network diverged; it is not stored."""
    return TrainedStage(stage.key, "diverged", None, None, 0.0, of_float.path, "its float network diverged")


@dataclass
class _Tracker:
    """Counts epochs, wherever they are trained, and guesses the time left from the speed so far."""

    queue: _Queue
    progress: Progress
    started: float = field(default_factory=time.perf_counter)
    done: float = 0.0
    """Of the estimated seconds."""
    _of_running: dict[str, float] = field(default_factory=dict)

    def epoch(self, key: str, _point: CurvePoint | None = None) -> None:
        stage = self.queue.stages[key]
        seconds = self._of_running.get(key, 0.0) + self.queue.cost[key] / max(1, stage.epochs)
        self._of_running[key] = min(seconds, self.queue.cost[key])
        self._tell()

    def end(self, stage: Stage, result: TrainedStage) -> None:
        for each, outcome in [(stage, result), *self.queue.skip_diverged(stage, result)]:
            self.queue.trained[each.key] = outcome
            self._of_running.pop(each.key, None)
            self.done += self.queue.cost[each.key]
            self.progress.trained(self.queue.plan.label(each), outcome)
        self._tell()

    def _tell(self) -> None:
        total = sum(self.queue.cost.values())
        done = self.done + sum(self._of_running.values())
        if done:
            elapsed = time.perf_counter() - self.started
            self.progress.advance(done / total, max(0.0, elapsed * (total - done) / done))


def _run_here(queue: _Queue, folder: Path, data_root: Path, tracker: _Tracker) -> None:
    while (stage := queue.take()) is not None:
        _train(stage, folder, data_root, partial(tracker.epoch, stage.key))
        tracker.end(stage, _stored(folder, stage))


def _run_in_processes(queue: _Queue, folder: Path, data_root: Path, workers: int, tracker: _Tracker) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's thread pools
    epochs = context.SimpleQueue()
    running: dict[Future[None], Stage] = {}
    pool = ProcessPoolExecutor(workers, context, initializer=_start_process, initargs=(epochs, os.getpid()))
    try:
        while True:
            while len(running) < workers and (stage := queue.take()) is not None:
                running[pool.submit(_train_there, stage, folder, data_root)] = stage
            if not running:
                break
            ended, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            while not epochs.empty():
                tracker.epoch(epochs.get())
            for future in ended:
                future.result()
                stage = running.pop(future)
                tracker.end(stage, _stored(folder, stage))
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


_in_process: dict[str, Any] = {}


def _start_process(epochs: Any, parent: int) -> None:
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the parent too, which ends its processes
    prepare_device("cpu", threads=1)
    _in_process["epochs"] = epochs


def _train_there(stage: Stage, folder: Path, data_root: Path) -> None:
    epochs, key = _in_process["epochs"], stage.key
    _train(stage, folder, data_root, lambda _point: epochs.put(key))


def _train(
    stage: Stage,
    folder: Path,
    data_root: Path,
    on_epoch: Callable[[CurvePoint], None],
) -> None:
    data = _data(stage.task, stage.recipe.float_part.validation_share, data_root)
    result = train_stage(
        stage,
        data,
        start_state=_start_state(stage, folder, data_root),
        checkpoint=CheckpointFile(checkpoint_path(folder, stage)),
        on_epoch=on_epoch,
    )
    write_stage(folder, stage, result, provenance(_CPU) | result.variant)


def _start_state(stage: Stage, folder: Path, data_root: Path) -> State | None:
    if not stage.bit_widths.is_float:
        return read_state(folder, _float_stage(stage))
    return starting_network(stage, data_root)


def _resolved(plan: Plan, data_root: Path) -> Plan:
    """The plan whose recipes leave nothing open: neither precision and path, nor which float network they start from;
    another file under the same path is another.
    """
    return replace(plan, variants=tuple(_variant_resolved(each, plan.task, data_root) for each in plan.variants))


def _variant_resolved(variant: Variant, task: Task, data_root: Path) -> Variant:
    recipe = resolve_numerics(variant.recipe, task, str(_CPU))
    checkpoint = recipe.float_part.checkpoint
    if checkpoint is not None and (data_root / checkpoint.path).is_file():
        recipe = resolve_checkpoint(recipe, data_root)
    return replace(variant, recipe=recipe)


def _check_checkpoints(plan: Plan, data_root: Path) -> None:
    """Raises DataMissing, naming the file, for a float network to start from that is not there."""
    for stage in plan.stages():
        checkpoint = stage.recipe.float_part.checkpoint
        if checkpoint is not None and not (data_root / checkpoint.path).is_file():
            raise DataMissing(
                "checkpoint",
                str(data_root / checkpoint.path),
                "is not there",
                f"put {stage.architecture.name} there as safetensors: `quantrank evaluate --save` writes such files",
            )


@lru_cache(maxsize=1)
def _data(task: Task, validation_share: float, data_root: Path) -> Data:
    return load_data(task, validation_share, data_root, _CPU)


def _stored(folder: Path, stage: Stage) -> TrainedStage:
    found = read_stage(folder, stage)
    assert found is not None, f"{stage.label} was trained and is not stored"
    return found


def _float_stage(stage: Stage) -> Stage:
    return replace(stage, bit_widths=FLOAT)


def _float(stage: Stage) -> str:
    return _float_stage(stage).key
