"""Which bits values have where they are read, on layer lists made by hand."""

from __future__ import annotations

import pytest
import torch

from qcore import Architecture, BitWidths, Network, describe, get_task
from qcore.layer_bits import activation_bits, input_bits
from qcore.layers import Activation, LayerList
from qcore.quantizers import ActivationQuantizer
from qcore.recipe import QuantizerSettings


def bits_read(layers: LayerList, activation: int | None = 3) -> dict[str, int]:
    return input_bits(tuple(layers.layers), BitWidths(2, activation), QuantizerSettings(), image_bits=8)


def test_max_pooling_hands_on_the_bits_it_reads() -> None:
    layers = LayerList()
    image = layers.input((3, 9, 9))
    layers.conv("of_image", layers.max_pool("pool1", image, 3, 2), 4)
    codes = layers.relu("relu", "of_image")
    layers.conv("of_codes", layers.max_pool("pool2", codes, 3, 2), 4)
    layers.conv("of_sums", layers.max_pool("pool3", "of_codes", 3, 2), 4)
    assert bits_read(layers) == {"of_image": 8, "of_codes": 3, "of_sums": 32}
    assert layers.shape("pool1") == (3, 5, 5)


def test_a_concatenation_has_the_bits_of_its_widest_part() -> None:
    layers = LayerList()
    image = layers.input((3, 5, 5))
    codes = layers.relu("relu", image)
    layers.conv("narrow", layers.concat("concat1", (codes, codes)), 4)
    layers.conv("with_image", layers.concat("concat2", (codes, image)), 4)
    layers.conv("with_sums", layers.concat("concat3", (image, "narrow")), 4)
    assert bits_read(layers) == {"narrow": 3, "with_image": 8, "with_sums": 32}
    assert layers.shape("concat3") == (7, 5, 5)


def test_spreading_one_value_keeps_its_bits_and_interpolating_makes_float() -> None:
    layers = LayerList()
    codes = layers.relu("relu", layers.input((3, 2, 2)))
    one = layers.relu("relu_one", layers.global_average_pool("pool", codes))
    layers.conv("of_spread", layers.resize("spread", one, 4, 7), 4)
    layers.conv("of_interpolated", layers.resize("interpolated", codes, 4, 7), 4)
    assert bits_read(layers) == {"of_spread": 3, "of_interpolated": 32}
    assert set(bits_read(layers, activation=None).values()) == {32}


# residual-L4-D3 on rings: 2 values in, 3 units, 2 classes; linear3 and the classifier read sums.
@pytest.mark.parametrize(("requantized", "of_sums"), [(True, 2), (False, 32)])
def test_sums_have_the_activations_bits_only_if_the_recipe_quantizes_them_again(
    requantized: bool, of_sums: int
) -> None:
    architecture, rings = Architecture.parse("residual-L4-D3"), get_task("rings")
    settings = QuantizerSettings(requantized_sums=requantized, first_last_weight_bits=8)
    description = describe(architecture, rings, (BitWidths(2, 2),), settings)
    expected = 6 * 8 * 32 + 9 * 2 * 2 + 9 * 2 * of_sums + 6 * 8 * of_sums
    assert description.bit_operations["W2A2"] == expected
    activations = [layer for layer in architecture.layers(rings) if isinstance(layer, Activation)]
    sums = [layer.name for layer in activations if layer.holds == "sum"]
    assert sums == ["sum_relu2", "sum_relu3"]
    unquantized = [layer.name for layer in activations if activation_bits(layer, BitWidths(2, 2), settings) is None]
    assert unquantized == ([] if requantized else sums)
    network = Network(architecture.layers(rings), BitWidths(2, 2), settings)
    quantized = {name for name, module in network.activation_quantizers() if module.bits is not None}
    assert quantized == {layer.name for layer in activations} - set(unquantized)


def test_sums_that_are_not_quantized_again_are_halves_of_their_terms() -> None:
    layers = Architecture.parse("residual-L3-D4").layers(get_task("rings"))
    network = Network(layers, BitWidths(2, 2), QuantizerSettings(requantized_sums=False)).eval()
    network.initialize(torch.Generator().manual_seed(0))
    x = torch.randn(64, 2, 1, 1, generator=torch.Generator().manual_seed(1))
    network.calibrate(x, 0.02)
    network.refresh_steps()
    seen: dict[str, torch.Tensor] = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    network(x)
    torch.testing.assert_close(seen["sum_relu2"], (seen["relu1"] + seen["relu2"]) / 2)
    assert len(seen["sum_relu2"].unique()) > 4  # more levels than 2 bits have


def test_a_capped_activation_is_cut_in_float_and_by_its_clipping_value_under_bits() -> None:
    x = torch.tensor([-1.0, 2.0, 5.0, 7.0, 9.0])
    assert ActivationQuantizer(None, signed=False, ceiling=6.0)(x).tolist() == [0, 2, 5, 6, 6]
    quantized = ActivationQuantizer(8, signed=False, ceiling=6.0)
    with torch.no_grad():
        quantized.clipping_value.fill_(8.5)
    torch.testing.assert_close(quantized(x), torch.tensor([0, 2, 5, 7, 8.5]), atol=0.02, rtol=0)


def test_a_capped_activation_is_calibrated_on_the_float_networks_values() -> None:
    x = torch.linspace(-10, 10, 2001)
    quantized = ActivationQuantizer(2, signed=False, ceiling=6.0)
    quantized.calibrating_share = 0.01
    assert quantized(x).max().item() == 6.0
    assert quantized.clipping_value.item() == 6.0
