"""Costs: against the paper, against the networks that are trained, and against examples worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from qcore import Architecture, BitWidths, Description, Network, Task, describe, get_task
from qcore.cost import (
    bit_operations,
    float_bit_operations,
    float_model_bytes,
    macs,
    macs_of,
    model_bytes,
    parameters,
    parameters_of,
    state_values,
    sums_of,
)
from qcore.families import FAMILIES
from qcore.layers import Input, weight_layers
from qcore.recipe import QuantizerSettings

# Table 5: block, L, D_init, millions of parameters.
TABLE_5 = [
    ("basic", 8, 59, 1.05),
    ("basic", 14, 40, 1.10),
    ("basic", 20, 31, 1.03),
    ("basic", 32, 24, 1.06),
    ("basic", 44, 20, 1.04),
    ("basic", 56, 18, 1.09),
    ("preact", 8, 59, 1.05),
    ("preact", 14, 40, 1.10),
    ("preact", 20, 31, 1.03),
    ("preact", 32, 24, 1.06),
    ("preact", 44, 20, 1.04),
    ("preact", 56, 18, 1.09),
    ("depthwise", 29, 38, 1.11),
    ("depthwise", 38, 32, 1.08),
    ("depthwise", 56, 26, 1.11),
    ("depthwise", 74, 22, 1.08),
    ("depthwise", 110, 18, 1.13),
]
LAYERS_PER_BLOCK = {"imagenet-preact": 2, "imagenet-bottleneck": 3}
STEP = {"basic": 6, "preact": 6, "depthwise": 9, "plain": 1, "residual": 1}
W2A2, W2AF, WFA2 = (BitWidths.parse(name) for name in ("W2A2", "W2AF", "WFA2"))


def described(name: str, task: str, bit_widths: tuple[BitWidths, ...] = (W2A2, W2AF, WFA2)) -> Description:
    return describe(Architecture.parse(name), get_task(task), bit_widths)


def task_with(input_shape: tuple[int, int, int], classes: int) -> Task:
    return replace(get_task("digits"), input_shape=input_shape, classes=classes, blocks=tuple(FAMILIES))


@pytest.mark.parametrize(("block", "depth", "width", "millions"), TABLE_5)
def test_state_values_are_the_parameters_that_table_5_prints(
    block: str, depth: int, width: int, millions: float
) -> None:
    counted = describe(Architecture(block, depth, width), get_task("cifar10")).state_values / 1e6
    if block == "depthwise":
        assert round(counted, 2) == millions
    else:
        assert counted == pytest.approx(millions, rel=0.011)


def test_fully_connected_networks_have_the_parameters_of_the_papers_appendix() -> None:
    # "The 200-4 FCDNN and 128-6 FCDNN contain 81K and 66K parameters": 2 -> 128, four times 128 -> 128, 128 -> 2.
    assert described("plain-L6-D128", "rings").parameters == 3 * 128 + 4 * 129 * 128 + 129 * 2 == 66_690
    assert described("plain-L4-D200", "rings").parameters == 3 * 200 + 2 * 201 * 200 + 201 * 2 == 81_402


@st.composite
def networks(draw: st.DrawFn) -> tuple[Architecture, Task]:
    block = draw(st.sampled_from(sorted(FAMILIES)))
    if block in STEP:
        name = f"{block}-L{STEP[block] * draw(st.integers(1, 3)) + 2}-D{draw(st.integers(3, 9))}"
        size = st.integers(1, 11)
    elif block in LAYERS_PER_BLOCK:
        blocks = draw(st.lists(st.integers(1, 2), min_size=4, max_size=4))
        depth = LAYERS_PER_BLOCK[block] * sum(blocks) + 2
        name = f"{block}-L{depth}-D{draw(st.integers(3, 5))}-B{'.'.join(map(str, blocks))}"
        size = st.integers(64, 80)
    else:
        name = f"{block}-x{draw(st.sampled_from(['0.05', '0.1', '0.2', '0.35']))}"
        size = st.integers(8, 75) if block == "mobilenetv2" else st.integers(16, 75)
    task = task_with((draw(st.integers(1, 4)), draw(size), draw(size)), draw(st.integers(2, 12)))
    return Architecture.parse(name), task


@given(networks())
@settings(deadline=None, max_examples=60)
def test_closed_forms_equal_what_is_counted_on_the_network_that_is_trained(drawn: tuple[Architecture, Task]) -> None:
    architecture, task = drawn
    layers = architecture.layers(task)
    network = Network(layers).eval()
    outputs: dict[str, tuple[int, ...]] = {}
    macs: dict[str, int] = {}

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        outputs[name] = tuple(output.shape[1:])
        if isinstance(module, nn.Conv2d | nn.Linear):
            macs[name] = module.weight.numel() * prod(output.shape[2:])

    for name, module in network.named_children():
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *task.input_shape))

    description = describe(architecture, task)
    assert description.parameters == sum(parameter.numel() for parameter in network.parameters())
    state = network.state_dict()
    assert description.state_values == sum(
        value.numel() for key, value in state.items() if not key.endswith("num_batches_tracked")
    )
    assert description.macs == sum(macs.values())
    assert 2 * description.macs == counter.get_total_flops()
    assert {layer.name: layer.macs for layer in weight_layers(layers)} == macs
    # Linear layers put out vectors, which the layer list writes as features x 1 x 1.
    shapes = {layer.name: layer.shape for layer in layers if not isinstance(layer, Input)}
    assert shapes == {name: (*shape, 1, 1)[:3] for name, shape in outputs.items()}


@given(networks(), st.sampled_from(["float", "W2A2", "W2AF", "WFA2"]))
@settings(deadline=None, max_examples=40)
def test_parameters_and_bits_are_those_of_the_layers_that_are_trained(
    drawn: tuple[Architecture, Task], bit_widths: str
) -> None:
    architecture, task = drawn
    layers, bits = architecture.layers(task), BitWidths.parse(bit_widths)
    network = Network(layers, bits)
    quantizers = {name: module.weight_quantizer for name, module in network.weight_layers()}
    packed = sum(
        -(-module.weight.numel() * (quantizer.levels.bits if (quantizer := quantizers[name]) else 32) // 8)
        for name, module in network.weight_layers()
    )
    steps = sum(quantizer is not None for quantizer in quantizers.values())
    clipping_values = sum(module.bits is not None for _, module in network.activation_quantizers())
    biases = sum(module.bias.numel() for _, module in network.weight_layers() if module.bias is not None)
    bn = sum(2 * module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    found = describe(architecture, task, (bits,)).model_bytes[bit_widths]
    assert found == packed + 4 * (steps + clipping_values + biases + bn)


@given(networks())
@settings(deadline=None, max_examples=40)
def test_a_float_network_has_32_bits_for_everything(drawn: tuple[Architecture, Task]) -> None:
    found = describe(*drawn)
    assert found.bit_operations["float"] == float_bit_operations(found.macs)
    assert found.model_bytes["float"] == float_model_bytes(found.parameters)


@given(networks())
@settings(deadline=None, max_examples=60)
def test_the_main_path_has_as_many_weight_layers_as_the_depth_says(drawn: tuple[Architecture, Task]) -> None:
    architecture, task = drawn
    names = [layer.name for layer in weight_layers(architecture.layers(task))]
    aside = ("shortcut", "image_level")
    assert sum(not any(word in name for word in aside) for name in names) == architecture.depth


def test_a_description_says_what_was_asked_for_float_first() -> None:
    description = described("basic-L14-D40", "cifar10", (BitWidths(4, 8), W2AF))
    assert (description.architecture, description.block) == ("basic-L14-D40", "basic")
    assert (description.depth, description.width) == (14, 40)
    assert description.blocks_per_group == (2, 2, 2)
    assert [*description.bit_operations] == [*description.model_bytes] == ["float", "W4A8", "W2AF"]


# plain-L3-D3 on rings: 2 values of 32 bits in, 2 classes out.
#
# layer        weights    biases  MACs   W2A2 weight bits x bits read
# linear1      2 x 3 = 6       3     6   8 x 32   first layer; reads the input
# linear2      3 x 3 = 9       3     9   2 x 2
# classifier   3 x 2 = 6       2     6   8 x 2    last layer
#
# 21 weights and 8 biases are 29 parameters; a convolution-free network has no BN, hence no other state.
def test_costs_of_a_small_fully_connected_network_worked_out_by_hand() -> None:
    description = described("plain-L3-D3", "rings")
    assert description.parameters == description.state_values == 29
    assert description.macs == 21
    assert description.bit_operations == {
        "float": 21 * 32 * 32,
        "W2A2": 6 * 8 * 32 + 9 * 2 * 2 + 6 * 8 * 2,
        "W2AF": 6 * 8 * 32 + 9 * 2 * 32 + 6 * 8 * 32,
        "WFA2": 6 * 32 * 32 + 9 * 32 * 2 + 6 * 32 * 2,
    }
    # Packed weights: 6 x 8 bits = 6 bytes; 9 x 2 bits = 18 bits, in 3 bytes; 6 bytes. Four bytes for each of three
    # steps, for each of eight biases, and for each of the two ReLUs' clipping values.
    assert description.model_bytes == {
        "float": 4 * 29,
        "W2A2": (6 + 3 + 6) + 4 * 3 + 4 * 8 + 4 * 2,
        "W2AF": (6 + 3 + 6) + 4 * 3 + 4 * 8,
        "WFA2": 4 * 29 + 4 * 2,
    }


def test_first_and_last_layers_left_in_float_cost_32_bits_a_weight() -> None:
    settings = get_task("rings").recipe("short").retraining.quantizers
    description = describe(Architecture.parse("plain-L3-D3"), get_task("rings"), (W2A2,), settings)
    # As above, with 32 bits for the outer layers' weights and a step for linear2 alone.
    assert description.bit_operations["W2A2"] == 6 * 32 * 32 + 9 * 2 * 2 + 6 * 32 * 2
    assert description.model_bytes["W2A2"] == (24 + 3 + 24) + 4 * 1 + 4 * 8 + 4 * 2


# basic-L8-D3 on digits: one block in each of three groups; images of 1 x 8 x 8 with 8 bits.
#
# layer            weights             positions   MACs
# stem             1 x 3 x 9  =   27   8 x 8 = 64  1728
# group 1 conv1    3 x 3 x 9  =   81   64          5184
#         conv2    3 x 3 x 9  =   81   64          5184
# group 2 conv1    3 x 6 x 9  =  162   4 x 4 = 16  2592
#         conv2    6 x 6 x 9  =  324   16          5184
#         shortcut 3 x 6      =   18   16           288
# group 3 conv1    6 x 12 x 9 =  648   2 x 2 = 4   2592
#         conv2    12 x 12 x 9 = 1296  4           5184
#         shortcut 6 x 12     =   72   4            288
# classifier       12 x 10    =  120   1            120
#
# BN channels: 3 + (3 + 3) + (6 + 6 + 6) + (12 + 12 + 12) = 63. ReLUs: the stem's and two a block, 7.
# The weights of all layers add up to 2829, the MACs to 28344; of these, 26496 MACs lie between stem and classifier.
def test_costs_of_a_small_convolutional_network_worked_out_by_hand() -> None:
    description = described("basic-L8-D3", "digits")
    assert description.parameters == 2829 + 2 * 63 + 10
    assert description.state_values == 2829 + 4 * 63 + 10
    assert description.macs == 28_344
    # The classifier reads averages of 4 codes 0..3: sums of 0..12, which take 4 bits.
    assert description.bit_operations == {
        "float": 28_344 * 32 * 32,
        "W2A2": 1728 * 8 * 8 + 26_496 * 2 * 2 + 120 * 8 * 4,
        "W2AF": 1728 * 8 * 32 + 26_496 * 2 * 32 + 120 * 8 * 32,
        "WFA2": 1728 * 32 * 8 + 26_496 * 32 * 2 + 120 * 32 * 4,
    }
    # Weights at 2 bits, four to a byte, each layer rounded up: 81 in 21 bytes, 162 in 41, 324 in 81, 18 in 5, 648 in
    # 162, 1296 in 324, 72 in 18; at 8 bits 27 and 120 bytes. Ten steps, ten biases, a scale and a shift a BN channel,
    # seven clipping values.
    packed = 27 + (21 + 21) + (41 + 81 + 5) + (162 + 324 + 18) + 120
    assert description.model_bytes == {
        "float": 4 * description.parameters,
        "W2A2": packed + 4 * (10 + 10 + 2 * 63 + 7),
        "W2AF": packed + 4 * (10 + 10 + 2 * 63),
        "WFA2": 4 * description.parameters + 4 * 7,
    }


# depthwise-L11-D3 on a single pixel of 8 bits with 2 classes, where every layer has as many MACs as weights. Blocks
# hand on signed values of 8 bits, which the next block's expansion and shortcut read; inner widths are 6 x 3, 6 x 6
# and 6 x 12.
#
#            expand               depthwise       project              shortcut
# group 1    3 x 18 = 54 at 2     18 x 9 = 162    18 x 3 = 54          none
# group 2    3 x 36 = 108 at 8    36 x 9 = 324    36 x 6 = 216         3 x 6 = 18 at 8
# group 3    6 x 72 = 432 at 8    72 x 9 = 648    72 x 12 = 864        6 x 12 = 72 at 8
def test_signed_shortcuts_are_read_at_their_own_bits() -> None:
    architecture, task = Architecture.parse("depthwise-L11-D3"), task_with((1, 1, 1), 2)
    description = describe(architecture, task, (W2A2,), QuantizerSettings(shortcut_bits=8))
    of_relus = 54 + (162 + 54) + (324 + 216) + (648 + 864)
    of_shortcuts = (108 + 18) + (432 + 72)
    stem, classifier = 27, 24
    assert description.macs == stem + of_relus + of_shortcuts + classifier
    expected = stem * 8 * 8 + of_relus * 2 * 2 + of_shortcuts * 2 * 8 + classifier * 8 * 8
    assert description.bit_operations["W2A2"] == expected


@pytest.mark.parametrize("name", ["basic-L14-D80", "preact-L20-D64", "plain-L8-D512"])
def test_two_bit_weights_take_about_a_sixteenth_of_the_float_networks_bytes(name: str) -> None:
    task = "rings" if name.startswith("plain") else "cifar10"
    size = described(name, task).model_bytes
    assert 1 <= 16 * size["W2A2"] / size["float"] < 1.07
    assert 1 <= 16 * size["W2AF"] / size["float"] < 1.07


# At every scale a network has the same weight layers, with as many or more weights and positions, at the same bits:
# where wider groups have a sum that narrower ones lack, or the reverse, it costs nothing.
@given(st.data())
@settings(deadline=None, max_examples=200)
def test_every_cost_rises_with_the_scale_of_every_family(data: st.DataObject) -> None:
    family = FAMILIES[data.draw(st.sampled_from(sorted(FAMILIES)))]
    depth = data.draw(st.sampled_from(family.default_depths[:3]))
    smaller = data.draw(st.integers(0, len(family.scales) - 2))
    side = data.draw(st.integers(64, 80) if family.block in LAYERS_PER_BLOCK else st.integers(16, 75))
    task = task_with((data.draw(st.integers(1, 4)), side, side), data.draw(st.integers(2, 12)))
    bits = st.sampled_from([None, 2, 3, 5, 8])
    widths = BitWidths(data.draw(bits), data.draw(bits))
    quantizers = QuantizerSettings(
        first_last_weight_bits=data.draw(st.sampled_from(["same", None, 4, 8])),
        shortcut_bits=data.draw(st.sampled_from([None, 4, 8])),
        requantized_sums=data.draw(st.booleans()),
    )
    low, high = (
        describe(Architecture(family.block, *family.size(depth, scale)), task, [widths], quantizers)
        for scale in family.scales[smaller : smaller + 2]
    )
    assert low.parameters < high.parameters
    assert low.model_bytes[str(widths)] < high.model_bytes[str(widths)]
    assert low.bit_operations[str(widths)] < high.bit_operations[str(widths)]


@st.composite
def sized(draw: st.DrawFn) -> tuple[Architecture, Task]:
    """Any network, and a task with inputs that suit it."""
    block = draw(st.sampled_from(sorted(FAMILIES)))
    if block in STEP:
        blocks = draw(st.integers(1, 40))
        architecture = Architecture(block, STEP[block] * blocks + 2, draw(st.integers(3, 40)))
    elif block in LAYERS_PER_BLOCK:
        groups = tuple(draw(st.lists(st.integers(1, 7), min_size=4, max_size=4)))
        depth = LAYERS_PER_BLOCK[block] * sum(groups) + 2
        architecture = Architecture(block, depth, draw(st.integers(3, 40)), groups)
    else:
        family = FAMILIES[block]
        architecture = Architecture(block, *family.size(family.default_depths[0], draw(st.sampled_from(family.scales))))
    is_small = block in STEP
    side = draw(st.integers(4, 40) if is_small else st.sampled_from([64, 72]))
    return architecture, task_with((draw(st.integers(1, 3)), side, side), draw(st.integers(2, 30)))


@given(
    sized(),
    st.sampled_from(["W2A2", "W3A4", "W2AF", "WFA2", "W8A8"]),
    st.sampled_from(["same", 8]),
    st.integers(2, 8),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_costs_of_deep_networks_are_those_of_all_their_layers(
    pair: tuple[Architecture, Task], name: str, ends: Any, shortcut_bits: int, requantized: bool
) -> None:
    (architecture, task), bits = pair, BitWidths.parse(name)
    quantizers = QuantizerSettings(
        first_last_weight_bits=ends, shortcut_bits=shortcut_bits, requantized_sums=requantized
    )
    layers = architecture.layers(task)

    found = sums_of(architecture, task, (bits,), quantizers)

    assert found[:3] == (parameters(layers), state_values(layers), macs(layers))
    assert found.bit_operations[name] == bit_operations(layers, bits, quantizers, task.input_bits)
    assert found.model_bytes[name] == model_bytes(layers, bits, quantizers)
    assert (parameters_of(architecture, task), macs_of(architecture, task)) == (found.parameters, found.macs)
