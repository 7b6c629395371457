"""Quantizers: exactly the levels of Eq. (1), exactly PACT's gradients, and networks that use nothing else."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qcore import Architecture, BitWidths, Network, get_task, quantize_activation, quantize_weight
from qcore.levels import Levels, weight_levels
from qcore.quantizers import ActivationQuantizer, WeightQuantizer

ARCHITECTURES = ["basic-L8-D4", "preact-L8-D4", "depthwise-L11-D3", "plain-L4-D16", "residual-L4-D16"]

all_bits = pytest.mark.parametrize("bits", range(2, 9))


def symmetric(bits: int) -> Levels:
    return weight_levels("symmetric", bits)


def gradients(
    x: list[float], alpha: float, of_output: list[float], *, signed: bool = False
) -> tuple[list[float], float]:
    inputs, clipping_value = torch.tensor(x, requires_grad=True), torch.tensor(alpha, requires_grad=True)
    output = quantize_activation(inputs, clipping_value, 2, signed=signed)
    of_x, of_alpha = torch.autograd.grad(output, (inputs, clipping_value), torch.tensor(of_output))
    return of_x.tolist(), of_alpha.item()


@all_bits
def test_weights_take_exactly_the_symmetric_levels(bits: int) -> None:
    most = 2 ** (bits - 1) - 1
    weights = torch.linspace(-2.0 * most, 2.0 * most, 10_001) * 0.25
    levels = quantize_weight(weights, torch.tensor(0.25), symmetric(bits)).unique()
    assert levels.tolist() == [0.25 * code for code in range(-most, most + 1)]


@all_bits
def test_activations_take_exactly_two_to_the_bits_levels_from_zero_to_alpha(bits: int) -> None:
    most = 2**bits - 1
    x = torch.linspace(-1.0 * most, 2.0 * most, 10_001) * 0.25
    levels = quantize_activation(x, torch.tensor(0.25 * most), bits).unique()
    assert levels.tolist() == [0.25 * code for code in range(most + 1)]


@all_bits
def test_signed_activations_take_exactly_the_symmetric_levels_up_to_alpha(bits: int) -> None:
    most = 2 ** (bits - 1) - 1
    x = torch.linspace(-2.0 * most, 2.0 * most, 10_001) * 0.25
    levels = quantize_activation(x, torch.tensor(0.25 * most), bits, signed=True).unique()
    assert levels.tolist() == [0.25 * code for code in range(-most, most + 1)]


def test_ties_round_to_even() -> None:
    halves = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    even = [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 4.0]
    assert quantize_weight(halves, torch.tensor(1.0), symmetric(4)).tolist() == even
    assert quantize_activation(halves, torch.tensor(7.0), 4, signed=True).tolist() == even
    assert quantize_activation(halves, torch.tensor(15.0), 4).tolist() == [max(0.0, value) for value in even]


def test_weights_quantize_to_values_worked_out_by_hand() -> None:
    weights = torch.tensor([[-9.0, -0.76, -0.74], [0.2, 0.8, 2.3]])
    assert quantize_weight(weights, torch.tensor(0.5), symmetric(2)).tolist() == [
        [-0.5, -0.5, -0.5],
        [0.0, 0.5, 0.5],
    ]
    # Three bits: codes -3..3.
    assert quantize_weight(weights, torch.tensor(0.5), symmetric(3)).tolist() == [
        [-1.5, -1.0, -0.5],
        [0.0, 1.0, 1.5],
    ]


def test_activations_quantize_to_values_worked_out_by_hand() -> None:
    x = torch.tensor([-4.0, 0.2, 0.3, 0.7, 0.8, 1.5, 9.0])
    # alpha 1.5 with 2 bits: steps of a half.
    assert quantize_activation(x, torch.tensor(1.5), 2).tolist() == [0.0, 0.0, 0.5, 0.5, 1.0, 1.5, 1.5]
    # Signed, 3 bits: codes -3..3, steps of a half again.
    signed = quantize_activation(x, torch.tensor(1.5), 3, signed=True)
    assert signed.tolist() == [-1.5, 0.0, 0.5, 0.5, 1.0, 1.5, 1.5]


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=30), st.integers(2, 8), st.floats(0.125, 3, width=32))
@settings(deadline=None, max_examples=100)
def test_quantized_values_are_the_nearest_levels(values: list[float], bits: int, size: float) -> None:
    x = torch.tensor(values)
    most = 2 ** (bits - 1) - 1
    for quantized, step, codes in [
        (quantize_weight(x, torch.tensor(size), symmetric(bits)), size, range(-most, most + 1)),
        (quantize_activation(x, torch.tensor(size), bits), size / (2**bits - 1), range(2**bits)),
        (quantize_activation(x, torch.tensor(size), bits, signed=True), size / most, range(-most, most + 1)),
    ]:
        distances = (x.double()[:, None] - step * torch.tensor(list(codes)).double()).abs()
        torch.testing.assert_close((x - quantized).abs().double(), distances.min(1).values, rtol=1e-5, atol=1e-6)


def test_weights_get_the_gradient_of_the_quantized_weight_unchanged() -> None:
    weights = torch.linspace(-5, 5, 40).requires_grad_()  # most of them beyond the outermost levels
    gradient = torch.randn(40, generator=torch.Generator().manual_seed(0))
    (of_weights,) = torch.autograd.grad(quantize_weight(weights, torch.tensor(0.5), symmetric(2)), weights, gradient)
    assert torch.equal(of_weights, gradient)


def test_the_gradient_passes_exactly_between_zero_and_alpha_and_alpha_gets_the_sum_from_there_on() -> None:
    alpha = 1.5
    just_below, just_above = float(torch.tensor(alpha).nextafter(torch.tensor(0.0))), 1e-30
    x = [-2.0, -1e-30, 0.0, just_above, 0.7, just_below, alpha, 1.6, 40.0]
    of_x, of_alpha = gradients(x, alpha, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0])
    assert of_x == [0.0, 0.0, 0.0, 8.0, 16.0, 32.0, 0.0, 0.0, 0.0]
    assert of_alpha == 64.0 + 128.0 + 256.0


def test_at_two_bits_the_gradient_stops_at_alpha_and_not_where_rounding_reaches_it() -> None:
    # With alpha 3 the values from 2.5 on round to 3, and those up to 3.5 do so without being clipped.
    of_x, of_alpha = gradients([2.6, 3.4], 3.0, [1.0, 2.0])
    assert of_x == [1.0, 0.0]
    assert of_alpha == 2.0


def test_signed_gradients_pass_exactly_between_minus_alpha_and_alpha() -> None:
    x = [-40.0, -1.5, -1.49, -0.1, 0.0, 0.1, 1.49, 1.5, 40.0]
    of_x, of_alpha = gradients(x, 1.5, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0], signed=True)
    assert of_x == [0.0, 0.0, 4.0, 8.0, 16.0, 32.0, 64.0, 0.0, 0.0]
    assert of_alpha == (128.0 + 256.0) - (1.0 + 2.0)


@pytest.mark.parametrize("signed", [False, True])
def test_the_gradient_of_alpha_is_summed_in_float32_whatever_the_inputs_are(*, signed: bool) -> None:
    # A bfloat16 sum of ones stops at 256: the next number is 258.
    x = torch.full((4097,), 9.0, dtype=torch.bfloat16, requires_grad=True)
    alpha = torch.tensor(1.0, requires_grad=True)
    output = quantize_activation(x, alpha, 2, signed=signed)
    assert output.dtype == torch.bfloat16
    of_x, of_alpha = torch.autograd.grad(output, (x, alpha), torch.ones_like(output))
    assert of_x.dtype == torch.bfloat16
    assert of_alpha.dtype == torch.float32
    assert of_alpha.item() == 4097


@pytest.mark.parametrize("signed", [False, True])
@all_bits
def test_alphas_gradient_is_the_derivative_where_every_value_is_clipped(bits: int, *, signed: bool) -> None:
    random = torch.Generator().manual_seed(bits)
    x = torch.tensor([-50.0, 60.0, 70.0, -80.0, 90.0])
    gradient = torch.randn(5, generator=random)
    alpha = torch.tensor(1.5, requires_grad=True)
    (of_alpha,) = torch.autograd.grad(quantize_activation(x, alpha, bits, signed=signed), alpha, gradient)

    def loss(value: float) -> float:
        return float((quantize_activation(x, torch.tensor(value), bits, signed=signed) * gradient).sum())

    assert of_alpha.item() == pytest.approx((loss(2.0) - loss(1.0)) / (2.0 - 1.0), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, -3.0])
def test_a_clipping_value_that_is_not_positive_acts_like_a_tiny_one(alpha: float) -> None:
    output = quantize_activation(torch.tensor([-1.0, 0.5, 2.0]), torch.tensor(alpha), 2)
    assert output.tolist() == pytest.approx([0.0, 1e-5, 1e-5])
    of_x, of_alpha = gradients([-1.0, 0.5, 2.0], alpha, [1.0, 2.0, 4.0])
    assert of_x == [0.0, 0.0, 0.0]
    assert of_alpha == 6.0


@pytest.mark.parametrize(("bits", "clipped"), [(2, 160), (3, 40), (4, 10), (5, 2)])
@pytest.mark.parametrize("signed", [False, True])
def test_calibration_clips_the_given_share_at_two_bits_and_a_quarter_of_it_with_every_further_bit(
    bits: int, clipped: int, *, signed: bool
) -> None:
    quantizer = ActivationQuantizer(bits, signed=signed)
    quantizer.calibrating_share = 0.02
    values = torch.arange(1.0, 8001.0)[torch.randperm(8000, generator=torch.Generator().manual_seed(0))]
    if signed:
        values = values * (1 - 2 * (values % 2))
    values = values.reshape(10, 8, 10, 10)
    assert torch.equal(quantizer(values), values)
    assert int((values.abs() > quantizer.clipping_value).sum()) == clipped
    quantizer.calibrating_share = None
    assert len(quantizer(values).unique()) == (2**bits - 1 if signed else 2**bits)


def test_a_calibrating_quantizer_passes_values_as_the_float_network_does() -> None:
    x = torch.tensor([[-2.0, 0.3, 5.0]])
    for signed, expected in [(False, [[0.0, 0.3, 5.0]]), (True, [[-2.0, 0.3, 5.0]])]:
        quantizer = ActivationQuantizer(2, signed=signed)
        quantizer.calibrating_share = 0.02
        assert torch.equal(quantizer(x), torch.tensor(expected))
        assert torch.equal(ActivationQuantizer(None, signed=signed)(x), torch.tensor(expected))


@pytest.mark.parametrize("signed", [False, True])
def test_dead_activations_get_a_positive_clipping_value(*, signed: bool) -> None:
    quantizer = ActivationQuantizer(2, signed=signed)
    quantizer.calibrating_share = 0.02
    with torch.no_grad():
        quantizer.clipping_value.fill_(-1.0)
    quantizer(torch.zeros(4, 3, 2, 2))
    assert quantizer.clipping_value.item() > 0


def expected_bits(name: str, bit_widths: BitWidths) -> int | None:
    """Of an activation layer: signed sums have 8 bits, everything rectified has those of the bit widths."""
    if bit_widths.activation is None:
        return None
    return 8 if name.endswith("_quantizer") else bit_widths.activation


@pytest.mark.parametrize("bit_widths", ["W2A2", "W2AF", "WFA2", "W4A8", "W3A4"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_multiplies_no_more_distinct_values_than_its_bit_widths_allow(name: str, bit_widths: str) -> None:
    architecture, bits = Architecture.parse(name), BitWidths.parse(bit_widths)
    fully_connected = architecture.block in ("plain", "residual")
    task = get_task("rings") if fully_connected else replace(get_task("digits"), input_shape=(2, 9, 7))
    network = Network(architecture.layers(task), bits)
    generator = torch.Generator().manual_seed(0)
    network.initialize(generator)
    x = torch.randn(512 if fully_connected else 24, *task.input_shape, generator=generator)
    network.calibrate(x, 0.02)
    network.refresh_steps()

    weights: dict[str, Tensor] = {}
    activations: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    signed: dict[str, bool] = {}
    for layer, module in network.weight_layers():
        module.register_forward_pre_hook(lambda _, inputs, layer=layer: read.__setitem__(layer, inputs[0]))
        if module.weight_quantizer is not None:
            module.weight_quantizer.register_forward_hook(
                lambda _, __, output, layer=layer: weights.__setitem__(layer, output)
            )
    for layer, quantizer in network.activation_quantizers():
        signed[layer] = quantizer.signed
        quantizer.register_forward_hook(lambda _, __, output, layer=layer: activations.__setitem__(layer, output))
    with torch.no_grad():
        network.eval()(x)

    layers = [layer for layer, _ in network.weight_layers()]
    if bits.weight is None:
        assert not weights
    else:
        assert list(weights) == layers
        for layer, values in weights.items():
            has = 8 if layer in (layers[0], layers[-1]) else bits.weight
            levels = len(values.unique())
            assert levels <= 2**has - 1, layer
            assert levels > min(2 ** (has - 1), 8), layer  # the smallest layers have few weights

    steps = defaultdict(list)
    for layer, values in activations.items():
        has = expected_bits(layer, bits)
        assert signed[layer] == layer.endswith("_quantizer")
        if has is None:
            assert len(values.unique()) > 256
        else:
            levels = len(values.unique())
            assert levels <= (2**has - 1 if signed[layer] else 2**has), layer
            assert levels > min(2 ** (has - 1), 32), layer  # a few hundred values do not reach all levels of 8 bits
            steps[has].append(layer)
    if bits.activation is not None:
        assert bits.activation in steps
        # The stem reads the image and the classifier averages; every other layer reads quantized values alone.
        most = 2 ** max(steps)
        for layer in layers[1:-1] if not fully_connected else layers[1:]:
            assert len(read[layer].unique()) <= most, layer


def test_a_weight_quantizers_step_follows_the_weights_only_when_it_is_refreshed() -> None:
    quantizer = WeightQuantizer(symmetric(2))
    weights = torch.tensor([3.0, -3.0, 3.0])
    assert quantizer(weights).tolist() == [1.0, -1.0, 1.0]
    quantizer.refresh(weights)
    assert quantizer.step == 3
    assert quantizer(weights).tolist() == [3.0, -3.0, 3.0]
    assert not list(quantizer.parameters())
