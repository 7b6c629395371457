"""Training: deterministic, resumable at every epoch, honest about divergence; and the batches it trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import qcore.quantizers
from qcore import (
    FLOAT,
    Architecture,
    BitWidths,
    Recipe,
    Stage,
    StageResult,
    Task,
    evaluate,
    get_task,
    l2_optimal_step,
    override,
)
from qcore.checkpoints import CheckpointFile, read_checkpoint, write_checkpoint
from qcore.data import Data, Split, evaluation_batches, generator_for, load_data, steps_per_epoch, training_batches
from qcore.divergence import Divergence
from qcore.levels import Levels, weight_levels
from qcore.network import Network
from qcore.recipe import FloatRecipe, Schedule
from qcore.tasks import Examples
from qcore.training import CurvePoint, Interrupted, State, train_stage

CPU = torch.device("cpu")
W2A2 = BitWidths(2, 2)
ARCHITECTURE = Architecture("basic", 8, 3)


def symmetric(bits: int) -> Levels:
    return weight_levels("symmetric", bits)


def recipe(optimizer: str = "sgd", epochs: int = 3, **float_part: Any) -> Recipe:
    rate = 0.1 if optimizer == "sgd" else 0.01
    schedule = {"epochs": epochs, "optimizer": optimizer, "learning_rate": rate}
    changes = {"float_part": {"schedule": schedule, **float_part}, "retraining": {"schedule": schedule}}
    return override(get_task("digits").recipe("short"), changes)


def stage(
    bit_widths: BitWidths = FLOAT, *, seed: int = 0, optimizer: str = "sgd", epochs: int = 3, **float_part: Any
) -> Stage:
    return Stage(get_task("digits"), ARCHITECTURE, recipe(optimizer, epochs, **float_part), seed, bit_widths)


@cache
def data(validation_share: float = 0.2) -> Data:
    return load_data(get_task("digits"), validation_share, Path("unused"), CPU)


@cache
def float_result() -> StageResult:
    return train_stage(stage(), data())


def float_state_for(trained: Stage) -> State | None:
    return None if trained.bit_widths.is_float else float_result().state


def trained(of: Stage, **options: Any) -> StageResult:
    return train_stage(of, data(), start_state=float_state_for(of), **options)


def assert_equal(one: StageResult, other: StageResult) -> None:
    """Bit for bit, the time aside."""
    assert replace(one, state={}, train_seconds=0.0) == replace(other, state={}, train_seconds=0.0)
    assert one.state.keys() == other.state.keys()
    for name, tensor in one.state.items():
        assert torch.equal(tensor, other.state[name]), name


class Kept:
    """A checkpoint in memory."""

    content = b""

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content


def train_with_an_interruption_after_every_epoch(of: Stage, checkpoint: Path) -> tuple[StageResult, list[int]]:
    epochs: list[int] = []
    while True:
        try:
            result = trained(
                of,
                checkpoint=CheckpointFile(checkpoint),
                on_epoch=lambda point: epochs.append(point.epoch),
                keep_going=lambda: False,
            )
        except Interrupted:
            continue
        return result, epochs


# Every kind of randomness: shuffled batches, flips and crops.
AUGMENTED = {"flip": True, "crop_padding": 1}

several_runs = pytest.mark.parametrize(
    ("bit_widths", "optimizer"), [(FLOAT, "sgd"), (FLOAT, "adam"), (W2A2, "sgd"), (W2A2, "adam")], ids=str
)


@several_runs
def test_a_seed_decides_a_run_bit_for_bit(bit_widths: BitWidths, optimizer: str) -> None:
    of = stage(bit_widths, optimizer=optimizer, epochs=2, **AUGMENTED)
    torch.manual_seed(1)
    one = trained(of)
    torch.manual_seed(2)
    assert_equal(one, trained(of))
    other = trained(replace(of, seed=1))
    assert [point.train_loss for point in other.curve] != [point.train_loss for point in one.curve]
    assert not torch.equal(other.state["stem_conv.weight"], one.state["stem_conv.weight"])


@several_runs
def test_a_run_interrupted_after_every_epoch_equals_an_uninterrupted_one(
    bit_widths: BitWidths, optimizer: str, tmp_path: Path
) -> None:
    of = stage(bit_widths, optimizer=optimizer, **AUGMENTED)
    result, epochs = train_with_an_interruption_after_every_epoch(of, tmp_path / "folder" / "checkpoint")
    assert epochs == [1, 2, 3]
    assert_equal(result, trained(of))


def test_a_run_abandoned_within_an_epoch_resumes_from_the_epoch_before(tmp_path: Path) -> None:
    def abandon(point: CurvePoint) -> None:
        if point.epoch == 2:
            raise KeyError("the lease is lost")

    with pytest.raises(KeyError):
        trained(stage(), checkpoint=CheckpointFile(tmp_path / "checkpoint"), on_epoch=abandon)
    epochs: list[int] = []
    result = trained(
        stage(), checkpoint=CheckpointFile(tmp_path / "checkpoint"), on_epoch=lambda point: epochs.append(point.epoch)
    )
    assert epochs == [2, 3]
    assert_equal(result, float_result())


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = trained(stage(), checkpoint=CheckpointFile(tmp_path / "checkpoint"))
    epochs: list[CurvePoint] = []
    again = trained(stage(), checkpoint=CheckpointFile(tmp_path / "checkpoint"), on_epoch=epochs.append)
    assert not epochs
    assert_equal(first, again)
    assert again.train_seconds == first.train_seconds


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:4],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],  # one bit of a number
        lambda whole: whole[32:],  # without its digest
        lambda whole: b"\xff" * len(whole),
        lambda whole: b"not a checkpoint at all",
        lambda whole: whole.replace(b'"quantrank"', b'"quantrunk"'),
        lambda whole: whole.replace(b'"stage', b'"st\xffge', 1),
    ],
)
def test_a_damaged_checkpoint_starts_afresh(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        trained(stage(), checkpoint=CheckpointFile(checkpoint), keep_going=lambda: False)
    whole = checkpoint.read_bytes()
    assert damage(whole) != whole
    checkpoint.write_bytes(damage(whole))
    epochs: list[int] = []
    result = trained(stage(), checkpoint=CheckpointFile(checkpoint), on_epoch=lambda point: epochs.append(point.epoch))
    assert epochs == [1, 2, 3]
    assert_equal(result, float_result())


@given(data=st.data())
@settings(deadline=None)
def test_no_damage_to_a_checkpoint_goes_unseen(data: st.DataObject) -> None:
    kept = Kept()
    write_checkpoint(kept, {"weight": torch.arange(6.0)}, {"stage": "key"})
    whole = kept.content
    if data.draw(st.booleans()):
        kept.content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        kept.content = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    assert read_checkpoint(kept) is None
    kept.content = whole
    saved = read_checkpoint(kept)
    assert saved is not None
    assert torch.equal(saved[0]["weight"], torch.arange(6.0))
    assert saved[1] == {"stage": "key"}


@pytest.mark.parametrize("other", [stage(seed=1), stage(epochs=4), stage(W2A2)], ids=lambda other: other.key[:6])
def test_the_checkpoint_of_another_stage_is_not_used(other: Stage, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trained(other, checkpoint=CheckpointFile(tmp_path / "checkpoint"), keep_going=lambda: False)
    epochs: list[int] = []
    result = trained(
        stage(), checkpoint=CheckpointFile(tmp_path / "checkpoint"), on_epoch=lambda point: epochs.append(point.epoch)
    )
    assert epochs == [1, 2, 3]
    assert_equal(result, float_result())


def test_a_checkpoint_is_whole_and_names_its_stage_after_every_epoch(tmp_path: Path) -> None:
    found: list[tuple[str, int]] = []

    def look() -> bool:
        saved = read_checkpoint(CheckpointFile(tmp_path / "checkpoint"))
        assert saved is not None
        found.append((saved[1]["stage"], len(saved[1]["curve"])))
        return True

    trained(stage(), checkpoint=CheckpointFile(tmp_path / "checkpoint"), keep_going=look)
    # The last epoch leaves nothing to ask about.
    assert found == [(stage().key, 1), (stage().key, 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_training_lowers_the_loss_and_learns(tmp_path: Path) -> None:
    result = float_result()
    assert result.status == "done"
    assert [point.epoch for point in result.curve] == [1, 2, 3]
    assert result.curve[-1].train_loss < 0.8 * result.curve[0].train_loss
    assert result.test_accuracy is not None
    assert result.test_accuracy > 50
    assert result.train_seconds > 0


def test_retraining_starts_from_the_float_network_with_the_steps_that_fit_its_weights() -> None:
    still = override(recipe(), {"retraining": {"schedule": {"epochs": 1, "learning_rate": 1e-30, "warmup_epochs": 0}}})
    result = trained(replace(stage(W2A2), recipe=still))
    of_float = float_result().state
    for name in of_float:
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(result.state[name], of_float[name]), name
    for name in set(result.state) - set(of_float):
        layer = name.split(".")[0]
        if name.endswith("step"):
            bits = 8 if layer in ("stem_conv", "classifier") else 2
            assert result.state[name] == l2_optimal_step(of_float[f"{layer}.weight"], symmetric(bits))
        else:
            assert result.state[name] > 0


def test_retraining_starts_with_clipping_values_that_clip_the_recipes_share_of_float_activations() -> None:
    changes = {
        "float_part": {"batch_size": 4096},  # so that calibration sees every training example
        "retraining": {
            "schedule": {"epochs": 1, "learning_rate": 1e-30, "warmup_epochs": 0},
            "quantizers": {"clipped_share": 0.07},
        },
    }
    state = trained(replace(stage(W2A2), recipe=override(recipe(), changes))).state
    network = Network(ARCHITECTURE.layers(get_task("digits")))
    network.load_state_dict(float_result().state)
    shares: dict[str, float] = {}
    for name, layer in network.activation_quantizers():
        layer.register_forward_hook(
            lambda _, __, output, name=name: shares.__setitem__(
                name, (output > state[f"{name}.clipping_value"]).double().mean().item()
            )
        )
    with torch.no_grad():
        network.eval()(data().normalized(data().train.inputs))
    assert shares == {name: pytest.approx(0.07, abs=1e-3) for name in shares}
    assert len(shares) == 7


def test_steps_follow_the_weights_at_the_start_of_every_epoch(tmp_path: Path) -> None:
    of = stage(W2A2, epochs=2)
    with pytest.raises(Interrupted):
        trained(of, checkpoint=CheckpointFile(tmp_path / "checkpoint"), keep_going=lambda: False)
    saved = read_checkpoint(CheckpointFile(tmp_path / "checkpoint"))
    assert saved is not None
    state = trained(of).state
    steps = [name for name in state if name.endswith(".weight_quantizer.step")]
    for name in steps:
        layer = name.split(".")[0]
        bits = 8 if layer in ("stem_conv", "classifier") else 2
        assert state[name] == l2_optimal_step(saved[0][f"model/{layer}.weight"], symmetric(bits))
        assert state[name] != l2_optimal_step(float_result().state[f"{layer}.weight"], symmetric(bits))
    assert len(steps) == 10


@pytest.mark.parametrize("refresh", ["once", "epoch", "step"])
def test_steps_follow_the_weights_as_often_as_the_recipe_says(refresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = stage(BitWidths(2, None), epochs=2)
    of = replace(of, recipe=override(of.recipe, {"retraining": {"quantizers": {"step_refresh": refresh}}}))
    fitted: list[Tensor] = []
    fit = qcore.quantizers.l2_optimal_step
    monkeypatch.setattr(qcore.quantizers, "l2_optimal_step", lambda *given: fitted.append(given[0]) or fit(*given))
    result = trained(of)
    steps_per_run = 2 * steps_per_epoch(data(), of.recipe.float_part)
    assert len(fitted) == 10 * {"once": 1, "epoch": 1 + 2, "step": 1 + steps_per_run}[refresh]
    if refresh == "once":
        for name in (name for name in result.state if name.endswith("quantizer.step")):
            layer = name.split(".")[0]
            bits = 8 if layer in ("stem_conv", "classifier") else 2
            assert result.state[name] == l2_optimal_step(float_result().state[f"{layer}.weight"], symmetric(bits))


def test_clipping_values_can_start_at_one_value_instead_of_being_calibrated() -> None:
    schedule = {"epochs": 1, "learning_rate": 1e-30, "warmup_epochs": 0}
    still = {"schedule": schedule, "quantizers": {"initial_clipping_value": 6.5}}
    of = replace(stage(W2A2), recipe=override(recipe(), {"retraining": still}))
    state = trained(of).state
    assert {float(value) for name, value in state.items() if name.endswith("clipping_value")} == {6.5}


def test_cycles_go_on_from_the_retrained_network_as_further_epochs_of_the_stage(tmp_path: Path) -> None:
    plain = stage(W2A2, epochs=2)
    cyclic = {"epochs": 3, "cycle_epochs": 2, "base_learning_rate": 0.004}
    of = replace(plain, recipe=override(plain.recipe, {"retraining": {"cyclic": cyclic}}))
    result = trained(of)
    assert result.curve[:2] == trained(plain).curve
    assert [point.learning_rate for point in result.curve[2:]] == pytest.approx([0.004, 0.00004, 0.004])
    interrupted, _ = train_with_an_interruption_after_every_epoch(of, tmp_path / "checkpoint")
    assert_equal(interrupted, result)


def test_a_stage_that_starts_from_a_given_network_trains_it_further_or_leaves_it() -> None:
    given = {"path": "given.safetensors", "sha256": "0" * 64}
    left = replace(stage(), recipe=override(recipe(), {"float_part": {"checkpoint": given}}))
    result = train_stage(left, data(), start_state=float_result().state)
    assert result.curve == ()
    assert (result.validation_accuracy, result.test_accuracy) == (
        float_result().validation_accuracy,
        float_result().test_accuracy,
    )
    tuned = replace(stage(), recipe=override(recipe(), {"float_part": {"checkpoint": given | {"fine_tune": True}}}))
    further = train_stage(tuned, data(), start_state=float_result().state)
    assert len(further.curve) == 3
    assert further.curve[0].train_loss < float_result().curve[0].train_loss


def test_layers_that_a_given_network_lacks_start_at_random() -> None:
    given = {"path": "given.safetensors", "sha256": "0" * 64}
    of = replace(stage(seed=5), recipe=override(recipe(), {"float_part": {"checkpoint": given}}))
    without = {name: tensor for name, tensor in float_result().state.items() if not name.startswith("classifier")}
    state = train_stage(of, data(), start_state=without).state
    random = Network(ARCHITECTURE.layers(get_task("digits")))
    random.initialize(generator_for(5, "initialization"))
    assert torch.equal(state["classifier.weight"], random.state_dict()["classifier.weight"])
    assert torch.equal(state["stem_conv.weight"], float_result().state["stem_conv.weight"])


def test_the_learning_rate_follows_the_schedule_through_the_epochs(tmp_path: Path) -> None:
    # One of Adam's steps moves a weight by at most 3.2 times the rate, and an epoch has 17 of them.
    schedule = {"epochs": 4, "decay": "steps", "milestones": [1, 2, 3], "warmup_epochs": 0}
    of = replace(stage(), recipe=override(recipe("adam"), {"float_part": {"schedule": schedule}}))
    weights: list[Tensor] = []

    def look() -> bool:
        saved = read_checkpoint(CheckpointFile(tmp_path / "checkpoint"))
        assert saved is not None
        weights.append(saved[0]["model/group3_block1_conv2.weight"])
        return True

    weights.append(
        trained(of, checkpoint=CheckpointFile(tmp_path / "checkpoint"), keep_going=look).state[
            "group3_block1_conv2.weight"
        ]
    )
    moved = [float((later - earlier).abs().max()) for earlier, later in pairwise(weights)]
    for epoch, distance in enumerate(moved, 2):
        rate = 0.01 * 0.1 ** (epoch - 1)
        assert rate < distance < 3.2 * 17 * rate


def test_initialization_and_batches_both_follow_the_seed_and_batches_the_epoch() -> None:
    still = override(recipe(), {"float_part": {"schedule": {"learning_rate": 1e-30}}})
    one, other = (trained(replace(stage(seed=seed), recipe=still)) for seed in (0, 1))
    assert not torch.equal(one.state["stem_conv.weight"], other.state["stem_conv.weight"])
    # Nothing but the batches differs between epochs, and between two seeds' retrainings without calibration.
    assert len({point.train_loss for point in one.curve}) == 3
    weights_only = stage(BitWidths(2, None))
    assert trained(weights_only).curve != trained(replace(weights_only, seed=1)).curve


def test_retraining_learns() -> None:
    result = trained(stage(W2A2))
    assert result.status == "done"
    assert result.curve[-1].train_loss < 0.9 * result.curve[0].train_loss
    assert result.test_accuracy is not None
    assert result.test_accuracy > 30


def test_a_curve_shows_the_rate_of_each_epochs_first_step() -> None:
    # 1150 training examples make 17 batches of 64; the first of them is a seventeenth up the warm-up's slope.
    assert [point.learning_rate for point in float_result().curve] == pytest.approx([0.1 / 17, 0.1, 0.05])


@pytest.mark.parametrize("bit_widths", [FLOAT, W2A2], ids=str)
def test_accuracies_are_those_of_the_returned_state_on_the_held_out_examples(bit_widths: BitWidths) -> None:
    of = stage(bit_widths)
    result = trained(of)
    network = Network(ARCHITECTURE.layers(of.task), bit_widths, of.recipe.retraining.quantizers)
    network.load_state_dict(result.state)
    network.eval()

    def percent(split: Split) -> float:
        with torch.no_grad():
            right = [
                int(network(((image[None] / 255) - 0.305) / 0.376).argmax()) == int(label)
                for image, label in zip(split.inputs, split.labels, strict=True)
            ]
        return 100 * sum(right) / len(right)

    # Images computed one by one may, on the boundary of two codes, get another class than among others.
    assert result.test_accuracy == pytest.approx(percent(data().test), abs=2)
    assert result.validation_accuracy == result.curve[-1].validation_accuracy
    assert result.validation_accuracy == pytest.approx(percent(data().validation), abs=2)


def test_without_held_out_examples_there_is_no_validation_accuracy() -> None:
    everything = data(0.0)
    assert len(everything.train) == 1438
    assert len(everything.validation) == 0
    result = train_stage(stage(epochs=2, validation_share=0.0), everything)
    assert result.validation_accuracy is None
    assert [point.validation_accuracy for point in result.curve] == [None, None]
    assert result.test_accuracy is not None


@pytest.mark.parametrize("bit_widths", [FLOAT, W2A2], ids=str)
def test_a_diverged_run_is_a_result_without_accuracies(bit_widths: BitWidths, tmp_path: Path) -> None:
    broken = replace(data(), std=torch.zeros(1, 1, 1, 1))  # inputs become infinite
    of = stage(bit_widths)

    def run(**options: Any) -> StageResult:
        return train_stage(
            of, broken, start_state=float_state_for(of), checkpoint=CheckpointFile(tmp_path / "checkpoint"), **options
        )

    result = run()
    assert result.status == "diverged"
    assert result.validation_accuracy is None
    assert result.test_accuracy is None
    assert len(result.curve) == 1
    assert not np.isfinite(result.curve[0].train_loss)
    assert result.divergence == Divergence(0, "stem_conv", "output")
    # Run again, it breaks in the same epoch and finds the same place.
    assert run().divergence == result.divergence


def line_task(count: int = 40) -> Task:
    """Examples that are all different: each input is its own number; test examples go on counting."""

    def load(_: Path) -> Examples:
        numbers = np.arange(2 * count, dtype=np.float32).reshape(-1, 1, 1, 1)
        labels = np.arange(2 * count) % 2
        return Examples(numbers[:count], labels[:count], numbers[count:], labels[count:])

    return replace(get_task("rings"), name="line", input_shape=(1, 1, 1), mean=(0.0,), std=(1.0,), load=load)


def test_training_that_blows_up_ends_as_diverged_and_leaves_nothing_to_retrain_from() -> None:
    # Momentum aside, every step multiplies the weights by 1 - 10 x 1.
    schedule = {"epochs": 20, "optimizer": "sgd", "learning_rate": 10, "decay": "steps", "weight_decay": 1}
    changes = {"float_part": {"schedule": schedule, "batch_size": 4}}
    diverging = override(get_task("rings").recipe("short"), changes)
    found = list(evaluate(Architecture("plain", 4, 8), line_task(), [W2A2], recipe=diverging, data_root=Path("unused")))
    assert [(of.bit_widths, result.status) for of, result in found] == [(FLOAT, "diverged")]
    result = found[0][1]
    assert 1 <= len(result.curve) < 20
    steps = 10 * len(result.curve)
    assert result.divergence is not None
    assert steps - 10 <= result.divergence.step < steps
    assert str(result.divergence) in {
        f"output of {layer} not finite at step {result.divergence.step}"
        for layer in ("linear2", "linear3", "classifier")
    }


class _Breaks(torch.autograd.Function):
    """Passes its input; the gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


@pytest.mark.parametrize("bit_widths", [FLOAT, W2A2])  # retraining clips gradients, which spreads what is no number
@pytest.mark.parametrize("factor", [torch.inf, torch.nan])
def test_a_gradient_that_breaks_is_found_with_its_step_and_layer(
    bit_widths: BitWidths, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Layer by layer: a fused pass has no place in the middle for the break.
    of = replace(stage(bit_widths), recipe=override(recipe(), {"float_part": {"path": "plain"}}))
    start_state = float_state_for(of)
    forward, passes = Network.forward, iter(range(1000))

    def breaking(self: Network, x: Tensor) -> Tensor:
        if not self.training:
            return forward(self, x)
        relu = self.get_submodule("group2_block1_relu1")
        # An epoch of 17 batches is trained once and then once more, to see where it broke.
        at_pass = factor if next(passes) % 17 == 5 else 1.0
        hook = relu.register_forward_hook(lambda _module, _inputs, output: _Breaks.apply(output, at_pass))
        logits = forward(self, x)
        hook.remove()
        return logits

    monkeypatch.setattr(Network, "forward", breaking)
    result = train_stage(of, data(), start_state=start_state)
    assert result.status == "diverged"
    # The last layer in front of the break: its own parameter's gradient, or that of the clipping value after it.
    layer = "group2_block1_bn1" if bit_widths.is_float else "group2_block1_relu1"
    assert result.divergence == Divergence(5, layer, "gradient")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["basic-L110-D3", "depthwise-L110-D3"])
def test_very_deep_networks_train_at_two_bits_without_breaking(name: str) -> None:
    schedules = {"float_part": {"schedule": {"epochs": 3}}, "retraining": {"schedule": {"epochs": 2}}}
    assert_trains_at_two_bits(name, get_task("digits"), schedules)


@pytest.mark.slow
def test_mobilenetv2_trains_at_two_bits() -> None:
    """On digits three times as large: of 8x8 pixels it learns nothing, and its gradients are those of noise."""
    schedules = {
        "float_part": {"schedule": {"epochs": 4, "learning_rate": 0.05}},
        "retraining": {"schedule": {"epochs": 2}},
    }
    reached = assert_trains_at_two_bits("mobilenetv2-x0.3", enlarged_digits(3), schedules)
    assert reached[0] > 70
    assert reached[1] > 25


def assert_trains_at_two_bits(name: str, task: Task, schedules: dict[str, Any]) -> list[float]:
    """Test accuracies in float and at W2A2."""
    small = override(task.recipe("short"), schedules)
    found = list(evaluate(Architecture.parse(name), task, [W2A2], recipe=small, data_root=Path("unused")))
    assert [(result.status, result.divergence) for _, result in found] == [("done", None)] * 2
    assert all(bool(tensor.isfinite().all()) for _, result in found for tensor in result.state.values())
    return [result.test_accuracy or 0.0 for _, result in found]


def enlarged_digits(times: int) -> Task:
    task = get_task("digits")

    def load(root: Path) -> Examples:
        examples = task.load(root)
        train, test = (each.repeat(times, 2).repeat(times, 3) for each in (examples.train_inputs, examples.test_inputs))
        return Examples(train, examples.train_labels, test, examples.test_labels)

    return replace(task, name="large-digits", input_shape=(1, 8 * times, 8 * times), load=load)


def test_clipping_values_stay_positive_at_rates_that_would_throw_them_below_zero() -> None:
    schedule = {"epochs": 1, "learning_rate": 3.0, "decay": "steps", "warmup_epochs": 0}
    of = replace(stage(W2A2), recipe=override(recipe(), {"retraining": {"schedule": schedule}}))
    still = override(of.recipe, {"retraining": {"schedule": {"learning_rate": 1e-30}}})
    started, ended = trained(replace(of, recipe=still)).state, trained(of).state
    ratios = [float(ended[name] / started[name]) for name in ended if name.endswith("clipping_value")]
    steps = steps_per_epoch(data(), of.recipe.float_part)
    assert max(ratios) <= 1.1**steps * 1.001
    assert min(ratios) >= 0.9**steps * 0.999
    assert min(ratios) < 0.8, "nothing was thrown"


def test_no_update_changes_a_clipping_value_by_more_than_the_bound() -> None:
    network = Network(ARCHITECTURE.layers(get_task("digits")), W2A2)
    scale = network.get_parameter("stem_relu.clipping_value")
    for target, expected in ((-5.0, 3.6), (40.0, 4.4), (4.1, 4.1)):
        network.set_clipping_values(4.0)
        with network.scales_held(0.1), torch.no_grad():
            scale.fill_(target)
        assert scale.item() == pytest.approx(expected)


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples() -> None:
    # At a vanishing rate every batch meets the same network; 36 of 40 examples make three batches of 12.
    schedule = {"epochs": 1, "learning_rate": 1e-30, "warmup_epochs": 0}
    still = override(
        get_task("rings").recipe("short"),
        {"float_part": {"schedule": schedule, "batch_size": 12, "validation_share": 0.1}},
    )
    architecture, task = Architecture("plain", 4, 8), line_task()
    ((_, result),) = evaluate(architecture, task, [], recipe=still, data_root=Path("unused"))
    network = Network(architecture.layers(task))
    network.load_state_dict(result.state)
    train = load_data(task, 0.1, Path("unused"), CPU).train
    expected = torch.nn.functional.cross_entropy(network(train.inputs), train.labels)
    assert result.curve[0].train_loss == pytest.approx(expected.item(), rel=1e-5)


def test_l2_regularization_pulls_on_weights_and_on_clipping_values_each_by_its_own_setting() -> None:
    def after_one_step(rate: float, weight_decay: float, clipping_weight_decay: float) -> State:
        schedule = {"epochs": 1, "learning_rate": rate, "weight_decay": weight_decay, "warmup_epochs": 0}
        quantizers = {"clipping_weight_decay": clipping_weight_decay}
        changes = {
            "float_part": {"batch_size": 4096},  # more than there are, so that an epoch is one step
            "retraining": {"schedule": schedule, "quantizers": quantizers},
        }
        return trained(replace(stage(W2A2), recipe=override(recipe(), changes))).state

    start, free = after_one_step(1e-30, 0, 0), after_one_step(0.01, 0, 0)
    pulled_weights, pulled_clipping_values = after_one_step(0.01, 0.5, 0), after_one_step(0.01, 0, 0.5)
    for name in start:
        if name.endswith((".weight", ".bias", "clipping_value")):
            pulled, other = pulled_weights[name], pulled_clipping_values[name]
            if name.endswith("clipping_value"):
                pulled, other = other, pulled
            torch.testing.assert_close(pulled, free[name] - 0.01 * 0.5 * start[name])
            assert torch.equal(other, free[name])


def test_an_evaluation_yields_the_float_stage_and_each_retraining_from_it_in_order() -> None:
    bit_widths = [BitWidths(2, None), W2A2]
    reported: list[tuple[BitWidths, int]] = []
    found = list(
        evaluate(
            ARCHITECTURE,
            get_task("digits"),
            bit_widths,
            recipe=recipe(),
            data_root=Path("unused"),
            on_epoch=lambda of, point: reported.append((of.bit_widths, point.epoch)),
        )
    )
    assert [of.bit_widths for of, _ in found] == [FLOAT, *bit_widths]
    assert reported == [(bits, epoch) for bits in (FLOAT, *bit_widths) for epoch in (1, 2, 3)]
    assert_equal(found[0][1], float_result())
    assert_equal(found[2][1], trained(stage(W2A2)))


def numbers(split: Split) -> list[float]:
    return split.inputs.flatten().tolist()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5])
def test_validation_and_test_examples_are_no_training_examples(share: float) -> None:
    found = load_data(line_task(1000), share, Path("unused"), CPU)
    assert len(found.validation) == round(1000 * share)
    assert sorted(numbers(found.train) + numbers(found.validation)) == list(range(1000))
    assert numbers(found.test) == list(range(1000, 2000))
    for split in (found.train, found.validation, found.test):
        assert split.labels.tolist() == [number % 2 for number in numbers(split)]


def test_the_same_examples_are_held_out_every_time() -> None:
    torch.manual_seed(1)
    one = load_data(line_task(1000), 0.1, Path("unused"), CPU)
    torch.manual_seed(2)
    other = load_data(line_task(1000), 0.1, Path("unused"), CPU)
    assert numbers(one.validation) == numbers(other.validation)
    # A random choice, not a stretch of the data.
    assert max(numbers(one.validation)) - min(numbers(one.validation)) > 800


def image_data(count: int = 60) -> Data:
    """Images of 2 x 4 x 5 whose label is their own number."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (count, 2, 4, 5), dtype=np.uint8))
    split = Split(images, torch.arange(count))
    mean, std = (torch.tensor(values).reshape(1, 2, 1, 1) for values in ([0.5, 0.25], [0.5, 2.0]))
    return Data(split, Split(images[:0], split.labels[:0]), split, mean, std)


def batch_recipe(**changes: Any) -> FloatRecipe:
    return FloatRecipe(schedule=Schedule(epochs=1), batch_size=8, **changes)


def normalized_by_hand(image: Tensor) -> npt.NDArray[np.float32]:
    scaled = image.numpy().astype(np.float64) / 255
    mean, std = np.array([0.5, 0.25])[:, None, None], np.array([0.5, 2.0])[:, None, None]
    return ((scaled - mean) / std).astype(np.float32)


def variants(image: Tensor, padding: int, *, flip: bool) -> dict[tuple[bool, int, int], npt.NDArray[np.float32]]:
    """Every image that augmentation may make of one, cut out one by one."""
    plain = normalized_by_hand(image)
    _, height, width = plain.shape
    found = {}
    for flipped in (False, True) if flip else (False,):
        turned = plain[:, :, ::-1] if flipped else plain
        padded = np.zeros((2, height + 2 * padding, width + 2 * padding), np.float32)
        padded[:, padding : padding + height, padding : padding + width] = turned
        for y in range(2 * padding + 1):
            for x in range(2 * padding + 1):
                found[flipped, y, x] = padded[:, y : y + height, x : x + width]
    return found


@pytest.mark.parametrize(("flip", "padding"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_batches_hold_exactly_flipped_and_cropped_images_every_way_about_equally_often(
    *, flip: bool, padding: int
) -> None:
    images = image_data()
    epochs = 40
    counts: dict[tuple[bool, int, int], int] = {}
    for epoch in range(epochs):
        for x, labels in training_batches(
            images, batch_recipe(flip=flip, crop_padding=padding), generator_for("test", epoch)
        ):
            assert x.shape == (8, 2, 4, 5)
            assert x.dtype == torch.float32
            for image, label in zip(x.numpy(), labels.tolist(), strict=True):
                possible = variants(images.train.inputs[label], padding, flip=flip)
                ways = [way for way, expected in possible.items() if np.allclose(image, expected, atol=1e-6)]
                assert ways
                counts[ways[0]] = counts.get(ways[0], 0) + 1
    ways = (2 if flip else 1) * (2 * padding + 1) ** 2
    expected = epochs * 56 / ways
    assert len(counts) == ways
    # Five standard deviations of a Poisson count.
    assert all(abs(count - expected) <= 5 * expected**0.5 for count in counts.values())


def test_an_epoch_draws_full_batches_and_every_example_at_most_once() -> None:
    images = image_data(60)
    assert steps_per_epoch(images, batch_recipe()) == 7

    def epoch(number: int) -> list[int]:
        batches = list(training_batches(images, batch_recipe(flip=True), generator_for("epoch", number)))
        assert [len(labels) for _, labels in batches] == [8] * 7
        return [label for _, labels in batches for label in labels.tolist()]

    first, second = epoch(1), epoch(2)
    assert len(set(first)) == len(set(second)) == 56
    assert first != second
    assert set(first) != set(second)  # the examples left out change
    assert epoch(1) == first


def test_fewer_examples_than_a_batch_still_make_one() -> None:
    ((x, labels),) = training_batches(image_data(5), batch_recipe(), generator_for("small"))
    assert x.shape == (5, 2, 4, 5)
    assert sorted(labels.tolist()) == [0, 1, 2, 3, 4]


def test_evaluation_sees_every_example_once_in_order_and_unaugmented() -> None:
    images = image_data(2345)
    batches = list(evaluation_batches(images, images.test))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(2345))
    seen = torch.cat([x for x, _ in batches])
    expected = np.stack([normalized_by_hand(image) for image in images.test.inputs])
    np.testing.assert_allclose(seen.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_streams_of_randomness_differ_by_their_labels() -> None:
    labels = [("a",), ("b",), (0, "initialization"), (1, "initialization"), (0, FLOAT, 1), (0, W2A2, 1), (0, W2A2, 2)]
    drawn = {tuple(torch.rand(3, generator=generator_for(*each)).tolist()) for each in labels}
    assert len(drawn) == len(labels)
    again = torch.rand(3, generator=generator_for("a"))
    assert tuple(again.tolist()) in drawn


@pytest.mark.parametrize("bit_widths", [FLOAT, W2A2], ids=str)
def test_a_run_abandoned_at_any_of_its_checks_resumes_to_the_same_result(bit_widths: BitWidths, tmp_path: Path) -> None:
    """Before a step, a batch that is evaluated, or a search for a step size; each time a seventh of all further on."""
    of = stage(bit_widths, epochs=2, **AUGMENTED)
    places: list[int] = []
    expected = trained(of, check=lambda: places.append(0))
    assert len(places) > 2 * len(expected.curve) + 2
    at = 0
    while True:
        left = [at := at + 1 + len(places) // 7]

        def check(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Interrupted

        try:
            result = trained(of, checkpoint=CheckpointFile(tmp_path / "checkpoint"), check=check)
        except Interrupted:
            continue
        break
    assert at > len(places) // 7 + 1
    assert_equal(result, expected)
