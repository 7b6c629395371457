"""LSQ beside PACT: learned step sizes of weights and activations, their gradients and where they start."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from qcore import Architecture, BitWidths, Network, Recipe, evaluate, get_task, override, quantize_with_learned_step
from qcore.levels import Levels, activation_levels, weight_levels
from qcore.quantizers import ActivationQuantizer, initial_learned_step
from qcore.recipe import QuantizerSettings

LEARNED = QuantizerSettings(weight_step="learned", activation_step="learned", weight_levels="twos_complement")


def gradients(x: Tensor, step: float, levels: Levels, of_output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, size = x.clone().requires_grad_(), torch.tensor(step, requires_grad=True)
    output = quantize_with_learned_step(x, size, levels)
    return (output.detach(), *torch.autograd.grad(output, (x, size), of_output))


@pytest.mark.parametrize("levels", [Levels(0, 3), Levels(-2, 1), Levels(-128, 127)])
def test_values_and_gradients_equal_torchs_learnable_fake_quantization(levels: Levels) -> None:
    # Torch passes the gradient where the *rounded* value is within range and so gives the step another slope in the
    # half step beyond the outermost levels: values there are left out.
    random = torch.Generator().manual_seed(4)
    step = 0.37
    x = torch.randn(2000, generator=random) * step * levels.highest
    steps = x / step
    edge = ((steps > levels.highest) & (steps < levels.highest + 0.51)) | (
        (steps < levels.lowest) & (steps > levels.lowest - 0.51)
    )
    x = x[~edge]
    of_output = torch.randn(len(x), generator=random)
    ours = gradients(x, step, levels, of_output)

    theirs_x = x.clone().requires_grad_()
    scale, zero = torch.tensor([step], requires_grad=True), torch.tensor([0.0], requires_grad=True)
    factor = 1 / math.sqrt(len(x) * levels.highest)
    output = torch._fake_quantize_learnable_per_tensor_affine(
        theirs_x, scale, zero, levels.lowest, levels.highest, factor
    )
    theirs = torch.autograd.grad(output, (theirs_x, scale), of_output)
    torch.testing.assert_close(ours[0], output.detach())
    torch.testing.assert_close(ours[1], theirs[0])
    torch.testing.assert_close(ours[2].reshape(1), theirs[1], rtol=1e-4, atol=1e-5)


def test_the_gradient_passes_strictly_between_the_outermost_levels() -> None:
    x = torch.tensor([-2.1, -2.0, -1.9, 0.0, 0.9, 1.0, 1.1])
    _, of_x, of_step = gradients(x, 1.0, Levels(-2, 1), torch.ones(7))
    assert of_x.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    inside = (-2 + 1.9) + 0.0 + (1 - 0.9)
    assert of_step.item() == pytest.approx((-2 - 2 + inside + 1 + 1) / math.sqrt(7), abs=1e-6)


def test_mid_rise_levels_learn_their_step_too() -> None:
    levels = weight_levels("mid_rise", 2)
    x = torch.tensor([-9.0, -0.2, 0.1, 9.0])
    output, of_x, of_step = gradients(x, 1.0, levels, torch.ones(4))
    assert output.tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert of_x.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert of_step.item() == pytest.approx(((-0.5 + 0.2) + (0.5 - 0.1)) / math.sqrt(4 * 1.5), abs=1e-6)


def test_a_steps_gradient_is_summed_in_float32_whatever_the_inputs_are() -> None:
    x = torch.full((4097,), 9.0, dtype=torch.bfloat16, requires_grad=True)
    step = torch.tensor(1.0, requires_grad=True)
    output = quantize_with_learned_step(x, step, Levels(0, 1))
    of_x, of_step = torch.autograd.grad(output, (x, step), torch.ones_like(output))
    assert of_x.dtype == torch.bfloat16
    assert of_step.item() == pytest.approx(4097 / math.sqrt(4097))


def test_an_activations_step_gets_the_same_gradient_of_a_mean_loss_whatever_the_batch() -> None:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(6, 5, 4, 4, generator=random).abs()

    def of_step(images: Tensor) -> float:
        quantizer = ActivationQuantizer(2, signed=False, learned=True)
        quantizer(images).square().mean().backward()  # type: ignore[no-untyped-call]
        gradient = quantizer.get_parameter("step").grad
        assert gradient is not None
        return gradient.item()

    assert of_step(x.repeat(8, 1, 1, 1)) == pytest.approx(of_step(x), rel=1e-5)
    whole = torch.tensor(1.0, requires_grad=True)
    quantize_with_learned_step(x, whole, Levels(0, 3), count=80).square().mean().backward()  # type: ignore[no-untyped-call]
    assert whole.grad is not None
    assert of_step(x) == pytest.approx(whole.grad.item(), rel=1e-6)


def test_training_starts_at_twice_the_mean_magnitude_over_the_root_of_the_largest_level() -> None:
    x = torch.tensor([-3.0, 1.0, 0.0, 2.0])
    assert initial_learned_step(x, activation_levels(2, signed=False)).item() == pytest.approx(2 * 1.5 / math.sqrt(3))
    assert initial_learned_step(torch.zeros(4), Levels(0, 3)).item() == 1.0


def recipe() -> Recipe:
    quantizers = {"weight_step": "learned", "activation_step": "learned", "weight_levels": "twos_complement"}
    schedule = {"epochs": 2, "warmup_epochs": 0}
    return override(
        get_task("digits").recipe("short"),
        {"float_part": {"schedule": schedule}, "retraining": {"schedule": schedule, "quantizers": quantizers}},
    )


def test_retraining_learns_every_step_and_refreshes_none() -> None:
    architecture, task = Architecture("preact", 8, 4), get_task("digits")
    stages = evaluate(architecture, task, [BitWidths(2, 2)], recipe=recipe(), data_root=Path("unused"))
    _, (stage, result) = stages
    assert result.status == "done"
    state = result.state
    assert not any(name.endswith("clipping_value") for name in state)
    network = Network(architecture.layers(task), stage.bit_widths, LEARNED)
    network.load_state_dict(state)
    for name, module in network.weight_layers():
        assert module.weight_quantizer is not None
        assert module.weight_quantizer.step > 0
        start = initial_learned_step(module.weight, module.weight_quantizer.levels)
        assert module.weight_quantizer.step != start, f"{name} is where it started"
    assert len([name for name in state if name.endswith("_relu1.step")]) == 3
