"""Measurements inside quantized networks, against hand-computed values and brute force."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from qcore import FLOAT, Architecture, BitWidths, Network, get_task, measure_quantization
from qcore.data import generator_for
from qcore.layers import Layer, LayerList
from qcore.measurements import Measurements
from qcore.recipe import QuantizerSettings


def linear_chain() -> tuple[Layer, ...]:
    """Two inputs, one quantized activation, one weight layer of two units and one of one."""
    layers = LayerList()
    x = layers.relu("relu", layers.linear("first", layers.input((2, 1, 1)), 2))
    layers.linear("last", x, 1)
    return tuple(layers.layers)


def by_hand() -> tuple[Network, tuple[Layer, ...], Tensor]:
    """The identity, activations on 0, 1, 2, 3, then the sum: (0.8, 2.2) becomes (1, 2)."""
    layers = linear_chain()
    network = Network(layers, BitWidths(None, 2))
    with torch.no_grad():
        for _, module in network.weight_layers():
            assert module.bias is not None
            module.bias.zero_()
        network.get_parameter("first.weight").copy_(torch.eye(2))
        network.get_parameter("last.weight").copy_(torch.tensor([[1.0, 3.0]]))
    network.set_clipping_values(3.0)
    return network, layers, torch.tensor([[0.8, 2.2]]).reshape(1, 2, 1, 1)


def test_noise_gain_of_a_linear_layer_is_what_the_pencil_says() -> None:
    network, layers, x = by_hand()

    first, last = measure_quantization(network, layers, x).noise

    assert (first.layer, first.input_noise_ratio, first.output_noise_ratio, first.noise_gain) == ("first", 0, 0, None)
    signal_in, noise_in = 0.8**2 + 2.2**2, 0.2**2 + 0.2**2
    signal_out, noise_out = (0.8 + 3 * 2.2) ** 2, (1 + 3 * 2 - 0.8 - 3 * 2.2) ** 2
    assert last.input_noise_ratio == pytest.approx(noise_in / signal_in, rel=1e-5)
    assert last.output_noise_ratio == pytest.approx(noise_out / signal_out, rel=1e-5)
    assert last.noise_gain == pytest.approx((noise_out / signal_out) / (noise_in / signal_in), rel=1e-5)


def test_an_activation_quantizer_is_measured_on_its_own_input() -> None:
    network, layers, x = by_hand()

    (found,) = measure_quantization(network, layers, x).activations

    assert found.sqnr_db == pytest.approx(10 * math.log10((0.8**2 + 2.2**2) / 0.08), rel=1e-5)
    assert (found.step_size, found.clipping_value, found.clipped_share) == (1.0, 3.0, 0.0)
    assert found.distribution.codes == (0, 1, 2, 3)
    assert found.distribution.shares == (0, 0.5, 0.5, 0)
    assert found.distribution.dead_codes == (0, 3)


def trained_like(bits: BitWidths, settings: QuantizerSettings, name: str = "basic-L8-D4") -> Measurements:
    task = get_task("digits")
    layers = Architecture.parse(name).layers(task)
    network = Network(layers, bits, settings)
    network.initialize(generator_for(0, name))
    network.start_steps()
    x = torch.randn(32, *task.input_shape, generator=generator_for(1))
    network.calibrate(x, 0.02)
    return measure_quantization(network, layers, x)


@pytest.mark.parametrize("levels", ["symmetric", "twos_complement", "mid_rise"])
@pytest.mark.parametrize("step", ["l2", "learned"])
def test_weight_noise_is_that_of_rounding_to_the_nearest_level(levels: str, step: str) -> None:
    settings = QuantizerSettings.model_validate({"weight_levels": levels, "weight_step": step})
    task = get_task("digits")
    layers = Architecture("basic", 8, 4).layers(task)
    network = Network(layers, BitWidths(2, None), settings)
    network.initialize(generator_for(0))
    network.start_steps()

    measured = measure_quantization(network, layers, torch.zeros(2, *task.input_shape)).weights

    weights = {name: module.weight.detach().double().flatten().tolist() for name, module in network.weight_layers()}
    assert [each.layer for each in measured] == list(weights)
    for each in measured:
        own = weights[each.layer]
        bits = 8 if each.layer in ("stem_conv", "classifier") else 2
        codes = range(-(2 ** (bits - 1)) + (levels == "symmetric"), 2 ** (bits - 1))
        offset = 0.5 if levels == "mid_rise" else 0.0
        values = [(code + offset) * each.step_size for code in codes]
        noise = sum(min((weight - value) ** 2 for value in values) for weight in own)
        assert each.sqnr_db == pytest.approx(10 * math.log10(sum(w * w for w in own) / noise), rel=1e-4)
        assert each.distribution.codes == tuple(codes)
        assert sum(each.distribution.shares) == pytest.approx(1)


def test_more_bits_mean_less_noise_everywhere() -> None:
    low, high = (trained_like(BitWidths(bits, bits), QuantizerSettings()) for bits in (2, 6))

    def lowest(of: Measurements) -> tuple[float, float]:
        return tuple(min(each.sqnr_db or math.inf for each in kind) for kind in (of.weights, of.activations))  # type: ignore[return-value]

    assert all(more > less + 10 for less, more in zip(lowest(low), lowest(high), strict=True))
    assert all(a.output_noise_ratio >= b.output_noise_ratio for a, b in zip(low.noise, high.noise, strict=True))


def test_a_float_network_has_no_noise() -> None:
    found = trained_like(FLOAT, QuantizerSettings())

    assert (found.weights, found.activations) == ((), ())
    assert all(
        (each.input_noise_ratio, each.output_noise_ratio, each.noise_gain) == (0, 0, None) for each in found.noise
    )


def test_signed_shortcuts_are_measured_with_all_their_codes() -> None:
    found = trained_like(BitWidths(None, 2), QuantizerSettings(), "preact-L8-D4")

    signed = next(each for each in found.activations if each.layer == "stem_quantizer")
    assert signed.distribution.codes == tuple(range(-127, 128))


def test_noise_after_a_convolution_is_measured_behind_its_batch_normalization() -> None:
    task = get_task("digits")
    layers = Architecture("basic", 8, 4).layers(task)
    network = Network(layers, BitWidths(None, 2))
    network.initialize(generator_for(0))
    x = torch.randn(16, *task.input_shape, generator=generator_for(1))
    network.calibrate(x, 0.02)
    before = measure_quantization(network, layers, x)
    with torch.no_grad():  # the mean that BN takes away is signal in front of it only
        network.get_parameter("group1_block1_bn1.bias").fill_(1000.0)
    after = measure_quantization(network, layers, x)

    one, other = (next(n for n in m.noise if n.layer == "group1_block1_conv1") for m in (before, after))
    assert other.output_noise_ratio < one.output_noise_ratio / 1000


def test_the_network_is_left_as_it_was() -> None:
    network, layers, x = by_hand()
    network.train()
    expected = network(x)

    measure_quantization(network, layers, x)

    assert network.training
    assert torch.equal(network(x), expected)
    assert not any(module._forward_hooks for module in network.modules())


def test_measurements_are_json() -> None:
    found = trained_like(BitWidths(2, 2), QuantizerSettings())

    assert json.loads(json.dumps(asdict(found), allow_nan=False))["weights"][0]["layer"] == "stem_conv"


def test_learned_steps_are_measured_too() -> None:
    settings = QuantizerSettings(weight_step="learned", activation_step="learned")

    found = trained_like(BitWidths(2, 2), settings)

    assert all(each.clipping_value == pytest.approx(3 * each.step_size) for each in found.activations)
    assert all(each.sqnr_db is not None and each.sqnr_db > 0 for each in found.weights)
