"""Training one stage: float training from scratch, or quantized retraining from the float stage's state.

Everything random is drawn per epoch from the stage's seed, so a run resumed from any epoch's checkpoint equals an
uninterrupted one, bit for bit on one machine and thread count.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from qcore.checkpoints import read_tensors, restore, training_state, write_tensors
from qcore.data import Data, generator_for, steps_per_epoch, training_batches
from qcore.learning_rate import learning_rate
from qcore.metrics import cross_entropy, measure
from qcore.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qcore.recipe import Schedule
    from qcore.stages import Stage

State = dict[str, Tensor]


@dataclass(frozen=True)
class CurvePoint:
    """One epoch of a learning curve."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean cross-entropy over the epoch's batches, in nats."""
    validation_accuracy: float | None
    """Percent; None where nothing is held out."""
    learning_rate: float
    """Of the epoch's first step."""


@dataclass(frozen=True)
class StageResult:
    """How a stage ended. A diverged run is a result, not an error: it has no accuracies."""

    status: Literal["done", "diverged"]
    validation_accuracy: float | None
    """Percent."""
    test_accuracy: float | None
    """Percent; measured once, after the last epoch."""
    curve: tuple[CurvePoint, ...]
    train_seconds: float
    """Spent in training epochs, those before an interruption included."""
    state: State
    """The network's state dict, on the CPU."""


class Interrupted(Exception):  # noqa: N818  not an error: the run was asked to stop
    """Training was asked to stop and its checkpoint is written."""


def train_stage(
    stage: Stage,
    data: Data,
    *,
    float_state: State | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[CurvePoint], None] = lambda _: None,
    keep_going: Callable[[], bool] = lambda: True,
    device: torch.device | None = None,
) -> StageResult:
    """Trains a stage to its end.

    Args:
        stage: what to train.
        data: the task's data on ``device``.
        float_state: the float stage's final state; required by, and only by, quantized stages.
        checkpoint: written after every epoch and resumed from if it is there; anything unreadable starts afresh.
        on_epoch: called after each epoch, before its checkpoint is written; may raise to abandon the run.
        keep_going: asked after each checkpoint.
        device: where to train; the CPU if not given.

    Raises:
        Interrupted: when ``keep_going`` says no and epochs remain.
    """
    assert (float_state is None) == stage.bit_widths.is_float
    device = device or torch.device("cpu")
    part = stage.recipe.float_part if stage.bit_widths.is_float else stage.recipe.retraining
    schedule = part.schedule
    network = _initial_network(stage, data, float_state).to(device)
    optimizer = _optimizer(network, schedule, stage.recipe.retraining.quantizers.clipping_weight_decay)
    curve, seconds = _resume(checkpoint, stage, network, optimizer)

    while len(curve) < schedule.epochs and _finite(curve):
        started = time.perf_counter()
        point = _train_epoch(len(curve), stage, schedule, network, optimizer, data)
        seconds += time.perf_counter() - started
        on_epoch(point)
        curve.append(point)
        if checkpoint is not None:
            metadata = {"stage": stage.key, "train_seconds": seconds, "curve": [asdict(each) for each in curve]}
            write_tensors(checkpoint, training_state(network, optimizer), metadata)
        if len(curve) < schedule.epochs and not keep_going():
            raise Interrupted(stage.label)

    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    if not _finite(curve) or not all(bool(t.isfinite().all()) for t in state.values()):
        return StageResult("diverged", None, None, tuple(curve), seconds, state)
    test_accuracy = measure(network, data, data.test)
    return StageResult("done", curve[-1].validation_accuracy, test_accuracy, tuple(curve), seconds, state)


def _initial_network(stage: Stage, data: Data, float_state: State | None) -> Network:
    quantizers = stage.recipe.retraining.quantizers
    network = Network(stage.architecture.layers(stage.task), stage.bit_widths, quantizers)
    if float_state is None:
        network.initialize(generator_for(stage.seed, "initialization"))
        return network
    missing, unexpected = network.load_state_dict(float_state, strict=False)
    own = {"step", "clipping_value"}
    assert not unexpected
    assert all(name.rsplit(".", 1)[1] in own for name in missing), missing
    if stage.bit_widths.activation is not None:
        batch, _ = next(training_batches(data, stage.recipe.float_part, generator_for(stage.seed, "calibration")))
        network.to(batch.device).calibrate(batch, quantizers.clipped_share)
    return network


def _optimizer(network: Network, schedule: Schedule, clipping_weight_decay: float) -> torch.optim.Optimizer:
    clipping_values = [module.clipping_value for _, module in network.activation_quantizers() if module.bits]
    kept = {id(parameter) for parameter in clipping_values}
    groups = [
        {"params": [p for p in network.parameters() if id(p) not in kept], "weight_decay": schedule.weight_decay},
        {"params": clipping_values, "weight_decay": clipping_weight_decay},
    ]
    groups = [group for group in groups if group["params"]]
    if schedule.optimizer == "adam":
        return torch.optim.Adam(groups, lr=schedule.learning_rate)
    return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=schedule.momentum)


def _resume(
    checkpoint: Path | None, stage: Stage, network: Network, optimizer: torch.optim.Optimizer
) -> tuple[list[CurvePoint], float]:
    saved = None if checkpoint is None else read_tensors(checkpoint)
    if saved is None or saved[1].get("stage") != stage.key:
        return [], 0.0
    tensors, metadata = saved
    restore(tensors, network, optimizer)
    return [CurvePoint(**point) for point in metadata["curve"]], metadata["train_seconds"]


def _train_epoch(
    epoch: int, stage: Stage, schedule: Schedule, network: Network, optimizer: torch.optim.Optimizer, data: Data
) -> CurvePoint:
    network.train()
    network.refresh_steps()
    recipe = stage.recipe.float_part
    steps = steps_per_epoch(data, recipe)
    loss_sum = torch.zeros((), device=data.device)
    generator = generator_for(stage.seed, stage.bit_widths, epoch)
    for index, (x, labels) in enumerate(training_batches(data, recipe, generator)):
        rate = learning_rate(schedule, epoch * steps + index, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = cross_entropy(network(x), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss_sum += loss.detach()
    validation_accuracy = measure(network, data, data.validation) if len(data.validation) else None
    return CurvePoint(
        epoch + 1, float(loss_sum) / steps, validation_accuracy, learning_rate(schedule, epoch * steps, steps)
    )


def _finite(curve: list[CurvePoint]) -> bool:
    return not curve or math.isfinite(curve[-1].train_loss)
