"""The torch networks, against forward passes written out by hand over their state dicts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from qcore import FLOAT, Architecture, BitWidths, Network, Task, get_task
from qcore.recipe import QuantizerSettings

SMALLEST = [
    "basic-L8-D4",
    "preact-L8-D4",
    "depthwise-L11-D3",
    "plain-L4-D16",
    "residual-L4-D16",
    "mobilenetv2-x0.05",
    "imagenet-preact-L12-D3-B1.1.2.1",
    "imagenet-bottleneck-L17-D3-B1.2.1.1",
    "deeplabv3-mobilenetv2-x0.05",
]
IMAGE_SHAPES = {
    "mobilenetv2": (2, 9, 17),
    "imagenet-preact": (2, 64, 71),
    "imagenet-bottleneck": (2, 64, 71),
    "deeplabv3-mobilenetv2": (2, 33, 26),
}


def task_for(architecture: Architecture) -> Task:
    if architecture.block in ("plain", "residual"):
        return get_task("rings")
    shape = IMAGE_SHAPES.get(architecture.block, (2, 9, 7))
    return replace(get_task("digits"), input_shape=shape, blocks=(architecture.block,))


def inputs_for(architecture: Architecture, count: int) -> Tensor:
    return torch.randn(count, *task_for(architecture).input_shape, generator=torch.Generator().manual_seed(1))


def network_of(
    name: str, bit_widths: BitWidths = FLOAT, settings: QuantizerSettings | None = None, seed: int = 0
) -> Network:
    architecture = Architecture.parse(name)
    network = Network(architecture.layers(task_for(architecture)), bit_widths, settings)
    network.initialize(torch.Generator().manual_seed(seed))
    return network


def used_network(name: str, bit_widths: BitWidths) -> Network:
    """With BN parameters, steps and clipping values that all differ from where they start, and statistics of inputs."""
    float_network = network_of(name)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key, value in float_network.state_dict().items():
            if "bn" in key and value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=random) + (-0.5 if key.endswith("bias") else 0.5))
    x = inputs_for(Architecture.parse(name), 16)
    for module in float_network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    float_network.train()(x)
    network = network_of(name, bit_widths)
    network.load_state_dict(float_network.state_dict(), strict=False)
    network.calibrate(x, 0.02)
    network.refresh_steps()
    return network.eval()


@pytest.mark.parametrize("name", SMALLEST)
def test_quantized_networks_have_the_float_networks_keys_and_those_of_their_quantizers(name: str) -> None:
    whole = network_of(name, BitWidths(2, 2))
    float_keys = set(network_of(name).state_dict())
    steps = {f"{layer}.weight_quantizer.step" for layer, _ in whole.weight_layers()}
    clipping_values = {f"{layer}.clipping_value" for layer, _ in whole.activation_quantizers()}
    assert set(whole.state_dict()) == float_keys | steps | clipping_values
    assert set(network_of(name, BitWidths(2, None)).state_dict()) == float_keys | steps
    assert set(network_of(name, BitWidths(None, 2)).state_dict()) == float_keys | clipping_values

    first, *_, last = [f"{layer}.weight_quantizer.step" for layer, _ in whole.weight_layers()]
    inner = network_of(name, BitWidths(2, None), QuantizerSettings(first_last_weight_bits=None))
    assert set(inner.state_dict()) == float_keys | steps - {first, last}


@pytest.mark.parametrize("name", SMALLEST)
def test_keys_are_the_layers_names(name: str) -> None:
    architecture = Architecture.parse(name)
    layers = {layer.name for layer in architecture.layers(task_for(architecture))}
    assert {key.split(".")[0] for key in network_of(name, BitWidths(2, 2)).state_dict()} <= layers - {"input"}


@pytest.mark.parametrize("name", SMALLEST)
def test_initialization_depends_on_the_generators_seed_alone(name: str) -> None:
    torch.manual_seed(5)
    one = network_of(name, seed=3).state_dict()
    torch.manual_seed(6)
    same = network_of(name, seed=3).state_dict()
    other = network_of(name, seed=4).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    for layer, _ in network_of(name).weight_layers():
        assert not torch.equal(one[f"{layer}.weight"], other[f"{layer}.weight"])


def test_weights_start_with_the_spread_of_he_initialization() -> None:
    linear = network_of("plain-L4-D200").state_dict()["linear2.weight"]
    assert linear.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.02)  # fan-in
    state = network_of("basic-L8-D32").state_dict()
    assert state["group2_block1_conv1.weight"].std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)  # fan-out
    bias = network_of("plain-L4-D200").state_dict()["linear2.bias"]
    assert 0.9 * 200**-0.5 < bias.abs().max().item() <= 200**-0.5


@pytest.mark.parametrize("bit_widths", ["float", "W2A2", "W2AF", "WFA2"])
@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("count", [1, 4])
def test_one_input_in_evaluation_and_a_few_in_training_give_finite_gradients(
    name: str, bit_widths: str, count: int
) -> None:
    network = used_network(name, BitWidths.parse(bit_widths))
    network.train(count > 1)
    logits = network(inputs_for(Architecture.parse(name), count))
    task = task_for(Architecture.parse(name))
    positions = task.input_shape[1:] if name.startswith("deeplabv3") else ()
    assert logits.shape == (count, task.classes, *positions)
    F.cross_entropy(logits, torch.zeros(count, *positions, dtype=torch.int64)).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    first = next(module.weight for _, module in network.weight_layers())
    assert first.grad is not None
    assert first.grad.any()


# A reference's view of a network: its tensors by name, its weights, and its activations, each under the bit widths.
Weight = Callable[[str], Tensor]
Act = Callable[[str, Tensor], Tensor]
Reference = Callable[[Tensor, dict[str, Tensor], Weight, Act, Act], Tensor]


def bn(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean, variance, scale, shift = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def classified(x: Tensor, state: dict[str, Tensor], weight: Weight) -> Tensor:
    return x.mean((2, 3)) @ weight("classifier").T + state["classifier.bias"]


def basic(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, _: Act) -> Tensor:
    x = relu("stem_relu", bn(F.conv2d(x, weight("stem_conv"), padding=1), state, "stem_bn"))
    for block, stride in [("group1_block1", 1), ("group2_block1", 2), ("group3_block1", 2)]:
        y = F.conv2d(x, weight(f"{block}_conv1"), stride=stride, padding=1)
        y = relu(f"{block}_relu1", bn(y, state, f"{block}_bn1"))
        y = bn(F.conv2d(y, weight(f"{block}_conv2"), padding=1), state, f"{block}_bn2")
        if stride == 2:
            x = F.conv2d(x, weight(f"{block}_shortcut_conv"), stride=2)
            x = bn(x, state, f"{block}_shortcut_bn")
        x = relu(f"{block}_relu2", y + x)
    return classified(x, state, weight)


def preact(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act) -> Tensor:
    x = signed("stem_quantizer", F.conv2d(x, weight("stem_conv"), padding=1))
    for block, stride in [("group1_block1", 1), ("group2_block1", 2), ("group3_block1", 2)]:
        activated = relu(f"{block}_relu1", bn(x, state, f"{block}_bn1"))
        y = F.conv2d(activated, weight(f"{block}_conv1"), stride=stride, padding=1)
        y = relu(f"{block}_relu2", bn(y, state, f"{block}_bn2"))
        y = F.conv2d(y, weight(f"{block}_conv2"), padding=1)
        if stride == 2:
            x = F.conv2d(activated, weight(f"{block}_shortcut_conv"), stride=2)
            x = bn(x, state, f"{block}_shortcut_bn")
        x = signed(f"{block}_quantizer", y + x)
    return classified(relu("last_relu", bn(x, state, "last_bn")), state, weight)


def depthwise(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act) -> Tensor:
    x = relu("stem_relu", bn(F.conv2d(x, weight("stem_conv"), padding=1), state, "stem_bn"))
    for block, stride in [("group1_block1", 1), ("group2_block1", 2), ("group3_block1", 2)]:
        y = relu(f"{block}_relu1", bn(F.conv2d(x, weight(f"{block}_expand")), state, f"{block}_bn1"))
        y = F.conv2d(y, weight(f"{block}_depthwise"), stride=stride, padding=1, groups=y.shape[1])
        y = relu(f"{block}_relu2", bn(y, state, f"{block}_bn2"))
        y = bn(F.conv2d(y, weight(f"{block}_project")), state, f"{block}_bn3")
        if stride == 2:
            x = F.conv2d(x, weight(f"{block}_shortcut_conv"), stride=2)
            x = bn(x, state, f"{block}_shortcut_bn")
        x = signed(f"{block}_quantizer", y + x)
    return classified(x, state, weight)


def plain(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, _: Act) -> Tensor:
    x = x[:, :, 0, 0]
    for index in (1, 2, 3):
        x = relu(f"relu{index}", x @ weight(f"linear{index}").T + state[f"linear{index}.bias"])
    return x @ weight("classifier").T + state["classifier.bias"]


def residual(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, _: Act) -> Tensor:
    x = relu("relu1", x[:, :, 0, 0] @ weight("linear1").T + state["linear1.bias"])
    for index in (2, 3):
        y = relu(f"relu{index}", x @ weight(f"linear{index}").T + state[f"linear{index}.bias"])
        x = relu(f"sum_relu{index}", (x + y) / 2)
    return x @ weight("classifier").T + state["classifier.bias"]


def inverted_residuals(
    x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act, strides: str, dilated_from: int
) -> Tensor:
    """Stem and 17 blocks; a digit of ``strides`` for the stem and each block, dilation 2 from one block on."""
    x = F.conv2d(x, weight("stem_conv"), stride=int(strides[0]), padding=1)
    x = relu("stem_relu", bn(x, state, "stem_bn"))
    for number in range(1, 18):
        block, stride, dilation = f"block{number}", int(strides[number]), 2 if number >= dilated_from else 1
        y = x
        if number > 1:
            y = relu(f"{block}_relu1", bn(F.conv2d(y, weight(f"{block}_expand")), state, f"{block}_bn1"))
        y = F.conv2d(y, weight(f"{block}_depthwise"), None, stride, dilation, dilation, groups=y.shape[1])
        y = relu(f"{block}_relu2", bn(y, state, f"{block}_bn2"))
        y = bn(F.conv2d(y, weight(f"{block}_project")), state, f"{block}_bn3")
        x = signed(f"{block}_quantizer", x + y if x.shape == y.shape and stride == 1 else y)
    return x


def mobilenetv2(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act) -> Tensor:
    x = inverted_residuals(x, state, weight, relu, signed, "112121121111112111", dilated_from=18)
    x = relu("last_relu", bn(F.conv2d(x, weight("last_conv")), state, "last_bn"))
    return classified(x, state, weight)


def deeplabv3(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act) -> Tensor:
    def projected(name: str, x: Tensor) -> Tensor:
        return relu(f"{name}_relu", bn(F.conv2d(x, weight(f"{name}_conv")), state, f"{name}_bn"))

    size = x.shape[2:]
    x = inverted_residuals(x, state, weight, relu, signed, "212121121111111111", dilated_from=15)
    whole = projected("image_level", x.mean((2, 3), keepdim=True))
    y = projected("features", x)
    y = projected("joined", torch.cat([whole.expand_as(y), y], 1))
    y = F.conv2d(y, weight("classifier"), state["classifier.bias"])
    return F.interpolate(y, size, mode="bilinear", align_corners=True)


def large_image_stem(x: Tensor, weight: Weight, signed: Act) -> Tensor:
    x = signed("stem_quantizer", F.conv2d(x, weight("stem_conv"), stride=2, padding=3))
    return F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)


def imagenet_preact(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act) -> Tensor:
    x = large_image_stem(x, weight, signed)
    for block, stride in [("1_block1", 1), ("2_block1", 2), ("3_block1", 2), ("3_block2", 1), ("4_block1", 2)]:
        block = f"group{block}"
        activated = relu(f"{block}_relu1", bn(x, state, f"{block}_bn1"))
        y = F.conv2d(activated, weight(f"{block}_conv1"), stride=stride, padding=1)
        y = F.conv2d(relu(f"{block}_relu2", bn(y, state, f"{block}_bn2")), weight(f"{block}_conv2"), padding=1)
        if stride == 2:
            x = bn(F.conv2d(activated, weight(f"{block}_shortcut_conv"), stride=2), state, f"{block}_shortcut_bn")
        x = signed(f"{block}_quantizer", y + x)
    return classified(relu("last_relu", bn(x, state, "last_bn")), state, weight)


def imagenet_bottleneck(x: Tensor, state: dict[str, Tensor], weight: Weight, relu: Act, signed: Act) -> Tensor:
    x = large_image_stem(x, weight, signed)
    for block, stride in [("1_block1", 1), ("2_block1", 2), ("2_block2", 1), ("3_block1", 2), ("4_block1", 2)]:
        block = f"group{block}"
        activated = relu(f"{block}_relu1", bn(x, state, f"{block}_bn1"))
        y = F.conv2d(activated, weight(f"{block}_conv1"))
        y = relu(f"{block}_relu2", bn(y, state, f"{block}_bn2"))
        y = F.conv2d(y, weight(f"{block}_conv2"), stride=stride, padding=1)
        y = F.conv2d(relu(f"{block}_relu3", bn(y, state, f"{block}_bn3")), weight(f"{block}_conv3"))
        if block.endswith("block1"):
            x = F.conv2d(activated, weight(f"{block}_shortcut_conv"), stride=stride)
            x = bn(x, state, f"{block}_shortcut_bn")
        x = signed(f"{block}_quantizer", y + x)
    return classified(relu("last_relu", bn(x, state, "last_bn")), state, weight)


REFERENCES = [
    basic,
    preact,
    depthwise,
    plain,
    residual,
    mobilenetv2,
    imagenet_preact,
    imagenet_bottleneck,
    deeplabv3,
]


@pytest.mark.parametrize("bit_widths", ["float", "W2A2", "W4A3"])
@pytest.mark.parametrize(("name", "reference"), [*zip(SMALLEST, REFERENCES, strict=True)])
def test_a_network_computes_what_its_block_kind_is_written_out_to_compute(
    name: str, reference: Reference, bit_widths: str
) -> None:
    bits = BitWidths.parse(bit_widths)
    # Double precision, so that the two ways to compute a value do not round to different sides of a level's edge.
    network = used_network(name, bits).double()
    state = network.state_dict()
    outermost = {"stem_conv", "linear1", "classifier"}

    def weight(layer: str) -> Tensor:
        value = state[f"{layer}.weight"]
        if bits.weight is None:
            return value
        step, most = state[f"{layer}.weight_quantizer.step"], 2 ** ((8 if layer in outermost else bits.weight) - 1) - 1
        return step * (value / step).round().clamp(-most, most)

    def relu(layer: str, x: Tensor) -> Tensor:
        if bits.activation is None:
            capped = "mobilenetv2" in name and layer.startswith(("stem", "block", "last"))  # ReLU6
            return x.clamp(0, 6 if capped else torch.inf)
        alpha, most = state[f"{layer}.clipping_value"], 2**bits.activation - 1
        return alpha / most * (x.clamp(min=0).minimum(alpha) / alpha * most).round()

    def signed(layer: str, x: Tensor) -> Tensor:
        if bits.activation is None:
            return x
        alpha, most = state[f"{layer}.clipping_value"], 127  # shortcuts have 8 bits
        return alpha / most * (x.clamp(-alpha, alpha) / alpha * most).round()

    x = inputs_for(Architecture.parse(name), 8).double()
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(x, state, weight, relu, signed))


def test_calibration_leaves_everything_but_the_clipping_values_as_it_was() -> None:
    network = network_of("preact-L8-D4", BitWidths(2, 2)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.calibrate(inputs_for(Architecture.parse("preact-L8-D4"), 16), 0.02)
    assert network.training
    after = network.state_dict()
    assert before.keys() == after.keys()
    for key, value in after.items():
        assert torch.equal(value, before[key]) != key.endswith("clipping_value"), key


def test_calibration_clips_the_given_share_of_the_float_networks_activations() -> None:
    x = inputs_for(Architecture.parse("basic-L8-D4"), 64)
    network = used_network("basic-L8-D4", BitWidths(2, 2))
    network.calibrate(x, 0.05)
    float_network = network_of("basic-L8-D4")
    float_network.load_state_dict(network.state_dict(), strict=False)
    clipping_values = {name: layer.clipping_value.item() for name, layer in network.activation_quantizers()}
    shares: dict[str, float] = {}
    for name, layer in float_network.activation_quantizers():
        layer.register_forward_hook(
            lambda _, __, output, name=name: shares.__setitem__(
                name, (output > clipping_values[name]).double().mean().item()
            )
        )
    float_network.eval()(x)
    assert len(shares) == 7
    assert shares == {name: pytest.approx(0.05, abs=1e-3) for name in shares}


def test_a_state_dict_can_be_written_as_safetensors(tmp_path: Path) -> None:
    network = Network(Architecture("depthwise", 11, 3).layers(get_task("digits")))
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    other = Network(Architecture("depthwise", 11, 3).layers(get_task("digits")))
    other.load_state_dict(load_file(tmp_path / "network.safetensors"))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(network.parameters(), other.parameters(), strict=True))


TRAIN_ON_LARGER_IMAGES = """
import torch
from dataclasses import replace
from qcore import Architecture, BitWidths, Network, get_task

torch.set_num_threads(1)
task = replace(get_task("digits"), input_shape=(3, 64, 64))
for name in ("basic-L8-D4", "preact-L8-D4", "depthwise-L11-D3"):
    network = Network(Architecture.parse(name).layers(task), BitWidths(2, 2))
    for _ in range(6):
        network(torch.randn(8, 3, 64, 64)).sum().backward()
"""


def test_training_on_larger_images_with_few_channels_does_not_crash() -> None:
    """In a process of its own: what this guards against ends the process."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRAIN_ON_LARGER_IMAGES], check=True, timeout=120)
