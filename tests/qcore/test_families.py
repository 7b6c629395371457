"""Networks of the paper's ImageNet and segmentation experiments, against torchvision and published counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from qcore import Architecture, InvalidInput, Network, Task, describe, get_task
from qcore.families import FAMILIES
from qcore.families.by_multiplier import multiplied
from qcore.layers import Conv, weight_layers
from qcore.torchvision_names import Renaming, torchvision_names

# Table 1: name, block kind, L, D_init, blocks per group, millions of parameters, billions of operations.
TABLE_1 = [
    ("resnet34", "imagenet-preact", 34, 64, (3, 4, 6, 3), 21.8, 3.7),
    ("resnet18-x1.4", "imagenet-preact", 18, 90, (2, 2, 2, 2), 22.8, 3.5),
    ("resnet26-x1.1", "imagenet-preact", 26, 70, (3, 3, 3, 3), 21.4, 3.3),
    ("resnet50", "imagenet-bottleneck", 50, 64, (3, 4, 6, 3), 25.6, 4.1),
    ("resnet44-x1.1", "imagenet-bottleneck", 44, 72, (3, 4, 5, 2), 25.0, 4.6),
    ("resnet101", "imagenet-bottleneck", 101, 64, (3, 4, 23, 3), 44.6, 7.9),
    ("resnet50-x1.3", "imagenet-bottleneck", 50, 85, (3, 4, 6, 3), 44.2, 7.2),
]


def task_with(input_shape: tuple[int, int, int], classes: int) -> Task:
    return replace(get_task("cifar10"), input_shape=input_shape, classes=classes, blocks=tuple(FAMILIES))


IMAGENET = task_with((3, 224, 224), 1000)


@pytest.mark.parametrize(("alias", "block", "depth", "width", "blocks", "millions", "billions"), TABLE_1)
def test_table_1s_networks_have_its_parameters_and_operations(
    alias: str, block: str, depth: int, width: int, blocks: tuple[int, ...], millions: float, billions: float
) -> None:
    architecture = Architecture.parse(alias)
    assert architecture == Architecture(block, depth, width, blocks)
    assert architecture.blocks_per_group == blocks
    description = describe(architecture, IMAGENET)
    assert description.parameters / 1e6 == pytest.approx(millions, abs=0.1)
    assert description.macs / 1e9 == pytest.approx(billions, abs=0.1)


def test_a_bottlenecks_stride_is_that_of_its_3x3_convolution() -> None:
    strided = [
        layer.name
        for layer in Architecture.parse("resnet50").layers(IMAGENET)
        if isinstance(layer, Conv) and layer.stride == 2 and "shortcut" not in layer.name
    ]
    assert strided == ["stem_conv", "group2_block1_conv2", "group3_block1_conv2", "group4_block1_conv2"]


@pytest.mark.parametrize("block", ["imagenet-preact", "imagenet-bottleneck"])
def test_small_images_are_refused_by_networks_for_large_ones(block: str) -> None:
    architecture = Architecture.parse(FAMILIES[block].example)
    assert architecture.layers(task_with((3, 64, 64), 10))[-1].shape == (10, 1, 1)
    with pytest.raises(InvalidInput, match="63x64 pixels") as refused:
        architecture.layers(task_with((3, 63, 64), 10))
    assert (refused.value.field, refused.value.value) == ("block", block)
    assert "64x64" in refused.value.remedy


def used(network: nn.Module, x: Tensor) -> nn.Module:
    """With BN parameters that differ from where they start and the statistics of ``x``, in double precision."""
    random = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=random)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=random)
            module.momentum = 1.0
    network.double().train()(x)
    return network.eval()


def torchvision_network(multiplier: float, classes: int) -> torchvision.models.MobileNetV2:
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(weights=None, width_mult=multiplier, num_classes=classes)
    assert isinstance(used(network, torch.randn(4, 3, 65, 65, dtype=torch.float64)), torchvision.models.MobileNetV2)
    return network


def renaming(architecture: Architecture, task: Task, state: dict[str, Tensor]) -> Renaming:
    return torchvision_names(architecture, task, {key: tuple(tensor.shape) for key, tensor in state.items()})


def same_network(architecture: Architecture, task: Task, state: dict[str, Tensor]) -> Network:
    network = Network(architecture.layers(task)).double()
    network.load_state_dict(renaming(architecture, task, state).of(state))
    return network.eval()


def test_mobilenetv2_has_torchvisions_parameters() -> None:
    description = describe(Architecture.parse("mobilenetv2-x1.0"), IMAGENET)
    assert description.parameters == 3_504_872
    assert (description.depth, description.width) == (53, 32)
    # The MobileNetV2 paper's Table 4: 300 M multiply-adds.
    assert round(description.macs / 1e6) == 301


@pytest.mark.parametrize("multiplier", [0.1, 0.35, 0.5, 1.0, 1.4])
def test_mobilenetv2_has_torchvisions_shapes_and_outputs_at_every_multiplier(multiplier: float) -> None:
    theirs = torchvision_network(multiplier, 7)
    architecture, task = Architecture.parse(f"mobilenetv2-x{multiplier}"), task_with((3, 65, 70), 7)
    ours = same_network(architecture, task, theirs.state_dict())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert architecture.width == theirs.features[0][0].out_channels
    x = 3 * torch.randn(2, 3, 65, 70, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std(0).mean() > 1e-3
        torch.testing.assert_close(ours(x), expected)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (33, 20), (64, 64)])
def test_on_small_images_the_first_stride_of_2_is_1(size: tuple[int, int]) -> None:
    theirs = torchvision_network(0.2, 5)
    theirs.features[0][0].stride = (1, 1)
    ours = same_network(Architecture.parse("mobilenetv2-x0.2"), task_with((3, *size), 5), theirs.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("size", "stride"), [((64, 64), 1), ((64, 65), 2), ((65, 20), 2), ((224, 224), 2)])
def test_images_are_small_when_neither_side_exceeds_64_pixels(size: tuple[int, int], stride: int) -> None:
    stem, *_ = weight_layers(Architecture.parse("mobilenetv2-x0.5").layers(task_with((3, *size), 5)))
    assert isinstance(stem, Conv)
    assert stem.stride == stride


def test_images_below_8x8_are_refused_by_mobilenetv2() -> None:
    with pytest.raises(InvalidInput, match="8x7 pixels"):
        Architecture.parse("mobilenetv2-x0.5").layers(task_with((3, 8, 7), 5))


@pytest.mark.parametrize("channels", [8, 16, 24, 32, 64, 96, 160, 320, 1280])
def test_channels_are_rounded_as_torchvision_rounds_them(channels: int) -> None:
    from torchvision.models._utils import _make_divisible

    for hundredths in range(1, 801):
        assert multiplied(channels, hundredths / 100) == _make_divisible(channels * (hundredths / 100), 8)


def test_deeplabv3_has_the_cost_that_the_mobilenetv2_papers_table_7_prints() -> None:
    description = describe(Architecture.parse("deeplabv3-mobilenetv2-x1.0"), task_with((3, 513, 513), 21))
    assert round(description.parameters / 1e6, 2) == 2.11
    # The table's 2.75 B counts some hundredths of its own kind: 0.3 % more than the convolutions have.
    assert description.macs / 1e9 == pytest.approx(2.75, abs=0.01)


@pytest.mark.parametrize("size", [(33, 49), (40, 65), (16, 16)])
def test_deeplabv3_computes_what_is_written_out_over_torchvisions_backbone(size: tuple[int, int]) -> None:
    theirs = torchvision_network(0.2, 5)
    backbone = theirs.features[:18]
    for block, dilation in ((14, 1), (15, 2), (16, 2), (17, 2)):  # output stride 16: block 14 would have stride 2
        depthwise = backbone[block].conv[1][0]
        depthwise.stride, depthwise.dilation, depthwise.padding = (1, 1), (dilation, dilation), (dilation, dilation)
    architecture, task = Architecture.parse("deeplabv3-mobilenetv2-x0.2"), task_with((3, *size), 6)
    network = Network(architecture.layers(task))
    network.initialize(torch.Generator().manual_seed(1))
    used(network, torch.randn(4, 3, *size, dtype=torch.float64))
    state = theirs.state_dict()
    found = renaming(architecture, task, state)
    head = {key: value for key, value in network.state_dict().items() if key.split(".")[0] in found.left_out}
    network.load_state_dict({**found.of(state), **head})

    def projected(name: str, x: Tensor) -> Tensor:
        y = F.conv2d(x, head[f"{name}_conv.weight"])
        statistics = (head[f"{name}_bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *statistics).relu()

    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        features = backbone(x)
        assert features.shape[2:] == (-(-size[0] // 16), -(-size[1] // 16))
        whole = projected("image_level", features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[2:])
        y = projected("joined", torch.cat([whole, projected("features", features)], 1))
        y = F.conv2d(y, head["classifier.weight"], head["classifier.bias"])
        expected = F.interpolate(y, size, mode="bilinear", align_corners=True)
        logits = network(x)
        assert logits.shape == (2, 6, *size)
        torch.testing.assert_close(logits, expected)


# Weights of torchvision under our names.


def test_a_classifier_of_other_classes_is_left_out() -> None:
    architecture, state = Architecture.parse("mobilenetv2-x0.1"), torchvision_network(0.1, 5).state_dict()
    other = renaming(architecture, task_with((3, 32, 32), 6), state)
    assert other.left_out == ("classifier",)
    assert not any(key.startswith("classifier") for key in other.names)
    assert renaming(architecture, task_with((3, 32, 32), 5), state).left_out == ()


def test_a_segmentation_networks_head_is_left_out() -> None:
    task, state = task_with((3, 33, 33), 1000), torchvision_network(0.1, 1000).state_dict()
    found = renaming(Architecture.parse("deeplabv3-mobilenetv2-x0.1"), task, state)
    branches = [f"{name}_{kind}" for name in ("image_level", "features", "joined") for kind in ("conv", "bn")]
    assert found.left_out == (*branches, "classifier")


def test_counters_of_batches_may_be_missing() -> None:
    state = torchvision_network(0.1, 5).state_dict()
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    architecture, task = Architecture.parse("mobilenetv2-x0.1"), task_with((3, 32, 32), 5)
    found, whole = (renaming(architecture, task, each).of(each) for each in (without, state))
    assert found.keys() == whole.keys()
    for key, tensor in found.items():
        expected = torch.zeros((), dtype=torch.int64) if key.endswith("num_batches_tracked") else whole[key]
        assert torch.equal(tensor, expected), key


@pytest.mark.parametrize(
    ("change", "value", "problem"),
    [
        ({"features.3.conv.2.weight": None}, "features.3.conv.2.weight", "is missing"),
        ({"features.0.1.running_var": None}, "features.0.1.running_var", "is missing"),
        ({"features.0.0.weight": torch.zeros(8, 1, 3, 3)}, "features.0.0.weight", "not (8, 3, 3, 3)"),
        ({"features.0.0.bias": torch.zeros(8)}, "features.0.0.bias", "no tensor of torchvision's mobilenet_v2"),
        ({"layer1.0.conv1.weight": torch.zeros(1)}, "layer1.0.conv1.weight", "no tensor of torchvision's mobilenet_v2"),
        ({"weight": torch.zeros(1)}, "weight", "no tensor of torchvision's mobilenet_v2"),
        ({"classifier.1.bias": torch.zeros(4)}, "classifier.1.bias", "not (5,)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    change: dict[str, Tensor | None], value: str, problem: str
) -> None:
    state = torchvision_network(0.1, 5).state_dict() | change
    given = {key: tensor for key, tensor in state.items() if tensor is not None}
    with pytest.raises(InvalidInput) as refused:
        renaming(Architecture.parse("mobilenetv2-x0.1"), task_with((3, 32, 32), 5), given)
    assert (refused.value.field, refused.value.value) == ("tensors", value)
    assert problem in refused.value.problem


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet20", "depthwise-L11-D8"])
def test_networks_without_mobilenetv2s_blocks_take_no_torchvision_weights(name: str) -> None:
    with pytest.raises(InvalidInput, match="MobileNetV2") as refused:
        renaming(Architecture.parse(name), task_with((3, 64, 64), 10), {})
    assert refused.value.field == "architecture"
