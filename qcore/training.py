"""Training one stage: float training from scratch, or quantized retraining from the float stage's state.

Everything random is drawn per epoch from the stage's seed, so a run resumed from any epoch's checkpoint equals an
uninterrupted one, bit for bit on one machine and thread count.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from qcore.checkpoints import read_checkpoint, restore, training_state, write_checkpoint
from qcore.data import Data, generator_for, steps_per_epoch, training_batches
from qcore.divergence import Divergence, Watch
from qcore.host_reads import read, to_host
from qcore.kernels import kernels_of
from qcore.learning_rate import cyclic_learning_rate, learning_rate
from qcore.lipschitz import lipschitz_loss
from qcore.memory import MOST_PARTS, is_out_of_memory
from qcore.metrics import cross_entropy, measure
from qcore.network import Network
from qcore.numerics import resolve_numerics
from qcore.tasks.task import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qcore.checkpoints import Checkpoint
    from qcore.recipe import Schedule
    from qcore.stages import Stage

log = logging.getLogger(__name__)

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
    divergence: Divergence | None = None
    """Where a diverged run broke first; None if training its last epoch again did not break, as a GPU's may not."""
    accumulation: int = 1
    """Parts that each batch was computed in, the last time if it changed: 1 unless memory ran out."""

    @property
    def variant(self) -> dict[str, int]:
        """What training departed in from its recipe, for the result's provenance; nothing as a rule."""
        return {} if self.accumulation == 1 else {"accumulation": self.accumulation}


class Interrupted(Exception):  # noqa: N818  not an error: the run was asked to stop
    """Training was asked to stop. The checkpoint of the last whole epoch is there; what came after it is lost."""


def train_stage(
    stage: Stage,
    data: Data,
    *,
    start_state: State | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[CurvePoint], None] = lambda _: None,
    keep_going: Callable[[], bool] = lambda: True,
    check: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
) -> StageResult:
    """Trains a stage to its end.

    An epoch that memory does not suffice for is trained again with every batch in 2, 4, 8 or 16 parts, whose gradients
    are added up, and so are those after it. The result is the same but for batch normalization, which then takes its
    statistics over the parts.

    Args:
        stage: what to train.
        data: the task's data on ``device``.
        start_state: the network to start from: for quantized stages the float stage's final state; for a float stage
            that of its recipe's checkpoint, if it has one, in which layers may be missing (they start at random).
        checkpoint: written after every epoch and resumed from if it is there; one that is damaged starts afresh.
        on_epoch: called after each epoch, before its checkpoint is written; may raise to abandon the run.
        keep_going: asked after each checkpoint.
        check: called before every step, every batch that is evaluated and every search for a step size, and so to cost
            nothing; may raise to abandon the run, Interrupted for one: the last checkpoint remains.
        device: where to train; the CPU if not given.

    Raises:
        Interrupted: when ``keep_going`` says no and epochs remain.
    """
    starts_at_random = stage.bit_widths.is_float and stage.recipe.float_part.checkpoint is None
    assert (start_state is None) == starts_at_random
    device = device or torch.device("cpu")
    key = stage.key
    stage = replace(stage, recipe=resolve_numerics(stage.recipe, stage.task, str(device)))
    network = _initial_network(stage, data, start_state, check).to(device)
    network.fuse(kernels_of(stage.recipe.float_part.path))
    optimizer = _optimizer(network, stage)
    run = _Run(stage, network, optimizer, data, check)
    curve, seconds, parts = _resume(checkpoint, key, network, optimizer)
    broken = False

    while len(curve) < stage.epochs and not broken:
        started = time.perf_counter()
        before = {name: tensor.clone() for name, tensor in training_state(network, optimizer).items()}
        point, parts = _train_epoch_in_memory(run, len(curve), parts, before)
        seconds += time.perf_counter() - started
        on_epoch(point)
        curve.append(point)
        broken = not (math.isfinite(point.train_loss) and _is_finite(network))
        if broken:
            break  # without a checkpoint: a resumed run breaks in the same epoch and finds where
        if checkpoint is not None:
            metadata = {"stage": key, "train_seconds": seconds, "curve": [asdict(each) for each in curve]}
            metadata["accumulation"] = parts
            write_checkpoint(checkpoint, training_state(network, optimizer), metadata)
        if len(curve) < stage.epochs and not keep_going():
            raise Interrupted(stage.label)

    state = {name: to_host(tensor, "a trained network").clone() for name, tensor in network.state_dict().items()}
    if broken:
        restore(before, network, optimizer)
        divergence = _where_it_broke(run, len(curve) - 1, parts)
        return StageResult("diverged", None, None, tuple(curve), seconds, state, divergence, parts)
    if curve:
        validation_accuracy = curve[-1].validation_accuracy
    else:
        validation_accuracy = measure(network, data, data.validation, check) if len(data.validation) else None
    test_accuracy = measure(network, data, data.test, check)
    return StageResult("done", validation_accuracy, test_accuracy, tuple(curve), seconds, state, accumulation=parts)


def _initial_network(stage: Stage, data: Data, start_state: State | None, check: Callable[[], None]) -> Network:
    quantizers = stage.recipe.retraining.quantizers
    network = Network(stage.architecture.layers(stage.task), stage.bit_widths, quantizers)
    if stage.bit_widths.is_float:
        network.initialize(generator_for(stage.seed, "initialization"))
    if start_state is None:
        return network
    missing, unexpected = network.load_state_dict(start_state, strict=False)
    assert not unexpected, unexpected
    if stage.bit_widths.is_float:
        return network
    own = {"step", "clipping_value"}
    assert all(name.rsplit(".", 1)[1] in own for name in missing), missing
    network.start_steps(check)
    if stage.bit_widths.activation is not None:
        batch, _ = next(training_batches(data, stage.recipe.float_part, generator_for(stage.seed, "calibration")))
        check()
        network.to(batch.device).calibrate(batch, quantizers.clipped_share)
        if quantizers.initial_clipping_value is not None:
            network.set_clipping_values(quantizers.initial_clipping_value)
    return network


def _optimizer(network: Network, stage: Stage) -> torch.optim.Optimizer:
    """Step sizes that are learned are not regularized, clipping values by a setting of their own."""
    schedule = _schedule(stage)
    by_kind: dict[str, list[nn.Parameter]] = {"step": [], "clipping_value": [], "": []}
    for name, parameter in network.named_parameters():
        kind = name.rsplit(".", 1)[1]
        by_kind[kind if kind in by_kind else ""].append(parameter)
    groups = [
        {"params": by_kind[""], "weight_decay": schedule.weight_decay},
        {"params": by_kind["step"], "weight_decay": 0.0},
        {
            "params": by_kind["clipping_value"],
            "weight_decay": stage.recipe.retraining.quantizers.clipping_weight_decay,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if schedule.optimizer == "adam":
        return torch.optim.Adam(groups, lr=schedule.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=schedule.momentum, fused=True)


def _resume(
    checkpoint: Checkpoint | None, key: str, network: Network, optimizer: torch.optim.Optimizer
) -> tuple[list[CurvePoint], float, int]:
    saved = None if checkpoint is None else read_checkpoint(checkpoint)
    if saved is None or saved[1].get("stage") != key:
        return [], 0.0, 1
    tensors, metadata = saved
    restore(tensors, network, optimizer)
    curve = [CurvePoint(**point) for point in metadata["curve"]]
    return curve, metadata["train_seconds"], metadata.get("accumulation", 1)


class _Run(NamedTuple):
    """What training one stage works on, the same in all of its epochs."""

    stage: Stage
    network: Network
    optimizer: torch.optim.Optimizer
    data: Data
    check: Callable[[], None]
    """As ``train_stage`` is given it."""


def _train_epoch_in_memory(run: _Run, epoch: int, parts: int, before: State) -> tuple[CurvePoint, int]:
    """Trains one epoch, from the state ``before``, in as few parts a batch as memory allows; says how many."""
    stage, network, optimizer, data, _ = run
    most = min(MOST_PARTS, max(1, stage.recipe.float_part.batch_size // 2))  # one example alone has no variance
    while True:
        try:
            return _train_epoch(run, epoch, parts), parts
        except (RuntimeError, MemoryError) as error:
            if 2 * parts > most or not is_out_of_memory(error):
                raise
        # Not in the handler: the error's traceback holds all that the step had made.
        parts *= 2
        log.warning("%s: out of memory, trained on with every batch in %d parts", stage.label, parts)
        optimizer.zero_grad(set_to_none=True)
        restore(before, network, optimizer)
        if data.device.type == "cuda":
            torch.cuda.empty_cache()


def _train_epoch(run: _Run, epoch: int, parts: int) -> CurvePoint:
    stage, network, _, data, check = run
    steps = steps_per_epoch(data, stage.recipe.float_part, _schedule(stage).epoch_share)
    loss_sum = torch.zeros((), device=data.device)
    for _, loss in _steps(run, epoch, parts):
        loss_sum += loss
    validation_accuracy = measure(network, data, data.validation, check) if len(data.validation) else None
    mean_loss = read(loss_sum, "an epoch's loss") / steps
    return CurvePoint(epoch + 1, mean_loss, validation_accuracy, _rate(stage, epoch * steps, steps))


def _where_it_broke(run: _Run, epoch: int, parts: int) -> Divergence | None:
    with Watch(run.network) as watch:
        for step, loss in _steps(run, epoch, parts):
            if broken := watch.first_broken(step, loss):
                return broken
    return None


def _steps(run: _Run, epoch: int, parts: int) -> Iterator[tuple[int, Tensor]]:
    """Trains one epoch; yields each optimizer step's number, counted over the stage, and its loss, after its update."""
    stage, network, optimizer, data, check = run
    network.train()
    recipe, retraining = stage.recipe.float_part, stage.recipe.retraining
    quantizers = retraining.quantizers
    if quantizers.step_refresh == "epoch":
        network.refresh_steps(check)
    share = _schedule(stage).epoch_share
    steps = steps_per_epoch(data, recipe, share)
    generator = generator_for(stage.seed, stage.bit_widths, epoch)
    for index, (x, labels) in enumerate(training_batches(data, recipe, generator, share)):
        check()
        step = epoch * steps + index
        for group in optimizer.param_groups:
            group["lr"] = _rate(stage, step, steps)
        if quantizers.step_refresh == "step":
            network.refresh_steps(check)
        optimizer.zero_grad(set_to_none=True)
        task_loss = _accumulate_gradients(stage, network, x, labels, parts)
        if not stage.bit_widths.is_float:
            nn.utils.clip_grad_norm_(network.parameters(), retraining.most_gradient_norm)
        with network.scales_held(quantizers.most_scale_change):
            optimizer.step()
        yield step, task_loss


def _accumulate_gradients(stage: Stage, network: Network, x: Tensor, labels: Tensor, parts: int) -> Tensor:
    """Adds a batch's gradients to the parameters', computed in so many parts of equal size; returns its task loss."""
    recipe, lipschitz_scale = stage.recipe.float_part, stage.recipe.retraining.lipschitz_scale
    counted = None if parts == 1 else (labels != IGNORED).sum()
    losses = []
    for part, part_labels in zip(x.tensor_split(parts), labels.tensor_split(parts), strict=True):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network(part)
        loss = task_loss = cross_entropy(logits.float(), part_labels, counted)
        if lipschitz_scale and not stage.bit_widths.is_float:
            loss = task_loss + lipschitz_scale / parts * lipschitz_loss(network)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(task_loss.detach())
    return losses[0] if parts == 1 else torch.stack(losses).sum()


def _schedule(stage: Stage) -> Schedule:
    return stage.recipe.float_part.schedule if stage.bit_widths.is_float else stage.recipe.retraining.schedule


def _rate(stage: Stage, step: int, steps: int) -> float:
    """The learning rate of a stage's step, through its schedule and then its cycles."""
    if stage.bit_widths.is_float:
        return learning_rate(stage.recipe.float_part.schedule, step, steps)
    part = stage.recipe.retraining
    before_cycles = part.schedule.epochs * steps
    if part.cyclic is None or step < before_cycles:
        return learning_rate(part.schedule, step, steps)
    return cyclic_learning_rate(part.cyclic, step - before_cycles, steps)


def _is_finite(network: Network) -> bool:
    finite = torch.stack([tensor.isfinite().all() for tensor in network.state_dict().values()])
    return bool(read(finite.all(), "an epoch is finite"))
