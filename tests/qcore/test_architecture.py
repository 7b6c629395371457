"""Names of architectures: which exist, what they mean, and how the others are refused."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import TASKS, Architecture, InvalidInput, get_task
from qcore.aliases import TABLE_1
from qcore.cost import parameters
from qcore.families import FAMILIES

# Layers per block, and how many more the smallest network has: L = step * B + 2 with B >= 1.
STEP = {"basic": 6, "preact": 6, "depthwise": 9, "plain": 1, "residual": 1}


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    block = draw(st.sampled_from(sorted(FAMILIES)))
    if block.endswith("mobilenetv2"):
        hundredths = 5 * draw(st.integers(1, 160))
        return Architecture(block, *FAMILIES[block].size(FAMILIES[block].default_depths[0], hundredths))
    width = draw(st.integers(3, 8192))
    if block.startswith("imagenet"):
        blocks = draw(st.lists(st.integers(1, 90), min_size=4, max_size=4))
        return Architecture(block, (2 if block.endswith("preact") else 3) * sum(blocks) + 2, width, tuple(blocks))
    return Architecture(block, STEP[block] * draw(st.integers(1, 1200 // STEP[block])) + 2, width)


@given(architectures())
@settings(deadline=None, max_examples=200)
def test_names_parse_back_to_the_architecture_they_name(architecture: Architecture) -> None:
    assert Architecture.parse(architecture.name) == architecture


def test_a_name_gives_block_kind_depth_and_width() -> None:
    assert Architecture.parse("depthwise-L38-D32") == Architecture("depthwise", 38, 32)
    assert Architecture("preact", 20, 31).name == "preact-L20-D31"


@pytest.mark.parametrize("block", STEP)
def test_a_family_has_exactly_the_depths_of_its_rule(block: str) -> None:
    exist = {STEP[block] * blocks + 2 for blocks in range(1, 150)}
    for depth in range(-3, 150):
        if depth in exist:
            assert Architecture(block, depth, 16).depth == depth
            continue
        with pytest.raises(InvalidInput) as raised:
            Architecture(block, depth, 16)
        assert (raised.value.field, raised.value.value) == ("depth", depth)


@pytest.mark.parametrize("block", STEP)
def test_a_refused_depth_names_the_nearest_depths_that_exist(block: str) -> None:
    exist = [depth for depth in range(3, 200) if (depth - 2) % STEP[block] == 0]
    for depth in set(range(1, 120)) - set(exist):
        with pytest.raises(InvalidInput) as raised:
            Architecture(block, depth, 16)
        *_, below, above = (int(found) for found in re.findall(r"L(\d+)", raised.value.remedy))
        nearest = [max((e for e in exist if e < depth), default=exist[0])]
        nearest.append(exist[exist.index(nearest[0]) + 1])
        assert [below, above] == nearest


@pytest.mark.parametrize(
    ("name", "field", "remedy"),
    [
        ("bottleneck-L50-D64", "block", "basic, preact, depthwise, plain, residual"),
        ("vgg16-x0.5", "block", "basic, preact, depthwise, plain, residual, mobilenetv2"),
        ("imagenet-preact-L34-D64", "architecture", "e.g. imagenet-preact-L18-D64-B2.2.2.2"),
        ("imagenet-preact-L34-D64-B3.4.6.3.", "architecture", "e.g. imagenet-preact-L18-D64-B2.2.2.2"),
        ("imagenet-preact-L34-D64-B03.4.6.3", "architecture", "e.g. imagenet-preact-L18-D64-B2.2.2.2"),
        ("imagenet-preact-L34-D64-B3.4.6", "blocks_per_group", "e.g. B2.2.2.2"),
        ("imagenet-preact-L34-D64-B3.4.6.2.1", "blocks_per_group", "e.g. B2.2.2.2"),
        ("imagenet-preact-L36-D64-B3.4.6.3", "depth", "L34"),
        ("imagenet-bottleneck-L34-D64-B3.4.6.3", "depth", "L50"),
        ("imagenet-preact-L1602-D64-B200.200.200.200", "depth", "use 1 to 1202"),
        ("imagenet-preact-L34-D2-B3.4.6.3", "width", "use 3 to 8192"),
        ("basic-L14-D40-B2.2.2", "architecture", "e.g. basic-L14-D40"),
        ("basic-x0.5", "architecture", "e.g. basic-L14-D40"),
        ("mobilenetv2-L53-D32", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenetv2", "architecture", "use mobilenetv2-x<width multiplier>, e.g. mobilenetv2-x0.5"),
        ("deeplabv3-mobilenetv2", "architecture", "e.g. deeplabv3-mobilenetv2-x0.5"),
        ("imagenet-preact", "architecture", "e.g. imagenet-preact-L18-D64-B2.2.2.2"),
        ("mobilenetv2-0.5", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenet", "architecture", "e.g. basic-L14-D40, mobilenetv2-x0.5"),
        ("mobilenetv2-x", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenetv2-x.", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenetv2-x0.5.", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenetv2-x1e0", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenetv2-x٠.٥", "architecture", "e.g. mobilenetv2-x0.5"),
        ("mobilenetv2-x0.50", "architecture", "use mobilenetv2-x0.5"),
        ("mobilenetv2-x.5", "architecture", "use mobilenetv2-x0.5"),
        ("mobilenetv2-x00.5", "architecture", "use mobilenetv2-x0.5"),
        ("mobilenetv2-x1", "architecture", "use mobilenetv2-x1.0"),
        ("deeplabv3-mobilenetv2-x1.", "architecture", "use deeplabv3-mobilenetv2-x1.0"),
        ("mobilenetv2-x0.33", "multiplier", "use x0.3 or x0.35"),
        ("mobilenetv2-x0.999", "multiplier", "use x0.95 or x1.0"),
        ("mobilenetv2-x0.0", "multiplier", "use 0.05 to 8.0"),
        ("mobilenetv2-x8.05", "multiplier", "use 0.05 to 8.0"),
        ("resnet21", "architecture", "20, 32, 44, 56, 110"),
        ("resnet20-x0", "architecture", "-x1 to -x10"),
        ("resnet20-x11", "architecture", "-x1 to -x10"),
        ("resnet50-x1.4", "architecture", "resnet50-x1.3"),
        ("ResNet20", "architecture", "e.g. resnet20-x2"),
        ("128-4", "architecture", "e.g. basic-L14-D40"),
        ("basic-L15-D40", "depth", "L14 or L20"),
        ("depthwise-L14-D40", "depth", "L11 or L20"),
        ("plain-L2-D40", "depth", "L3 or L4"),
        ("basic-L2-D40", "depth", "L8 or L14"),
        ("basic-L1208-D40", "depth", "use 1 to 1202"),
        ("basic-L14-D2", "width", "use 3 to 8192"),
        ("basic-L14-D8193", "width", "use 3 to 8192"),
        ("basic-L14-D9999999", "width", "use 3 to 8192"),
        *(
            (name, "architecture", "e.g. basic-L14-D40")
            for name in [
                "",
                "basic",
                "basic-L14",
                "basic-D40-L14",
                "basic-L14-D",
                "basic-L0-D40",
                "basic-L14-D0",
                "basic-L014-D40",
                "basic-L14-D040",
                "basic-L-14-D40",
                "basic-L14.0-D40",
                "Basic-L14-D40",
                "basic-l14-d40",
                " basic-L14-D40",
                "basic-L14-D40\n",
                "basic-L14-D40-D40",
                "basic-L١٤-D40",  # Arabic-Indic digits, which int() reads
                "basic-L1٤-D40",
                "basic-L14-D4٠",
                "basic-L１４-D40",  # full-width digits
                "basic-L14-D" + "9" * 100_000,
                "basic-L" + "1" * 100_000 + "-D40",
            ]
        ),
    ],
)
def test_any_other_name_is_refused_with_the_field_and_the_remedy(name: str, field: str, remedy: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Architecture.parse(name)
    assert raised.value.field == field
    assert remedy in raised.value.remedy
    assert str(raised.value).startswith(f"{field}: {raised.value.value!r} ")
    assert str(raised.value).endswith(raised.value.remedy)


@given(st.from_regex(r"[a-z]{0,9}-?L?\d{0,9}-D\d{0,9}", fullmatch=True) | st.text(max_size=20))
@settings(deadline=None, max_examples=300)
def test_parsing_either_refuses_a_text_as_invalid_input_or_takes_it_as_its_canonical_name(text: str) -> None:
    try:
        parsed = Architecture.parse(text)
    except InvalidInput:
        return
    assert parsed.name == text


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("basic-L8-D59", 1),
        ("basic-L56-D18", 9),
        ("preact-L32-D24", 5),
        ("depthwise-L29-D38", 3),
        ("depthwise-L110-D18", 12),
    ],
)
def test_convolutional_networks_have_three_groups_of_the_blocks_that_table_5_prints(name: str, blocks: int) -> None:
    assert Architecture.parse(name).blocks_per_group == (blocks, blocks, blocks)


def test_aliases_of_cifar_networks_stand_for_basic_blocks_of_so_many_times_16_channels() -> None:
    for depth in (20, 32, 44, 56, 110):
        assert Architecture.parse(f"resnet{depth}") == Architecture("basic", depth, 16)
        for times in range(1, 11):
            assert Architecture.parse(f"resnet{depth}-x{times}").name == f"basic-L{depth}-D{16 * times}"


@pytest.mark.parametrize("alias", sorted(TABLE_1))
def test_aliases_of_table_1_stand_for_canonical_names(alias: str) -> None:
    assert Architecture.parse(alias).name == TABLE_1[alias]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("mobilenetv2", 53, 32), "multiplier"),
        (("mobilenetv2", 53, 24, (100,)), "width"),
        (("mobilenetv2", 52, 32, (100,)), "depth"),
        (("mobilenetv2", 53, 32, (99,)), "multiplier"),
        (("imagenet-preact", 34, 64), "blocks_per_group"),
        (("imagenet-preact", 34, 64, (3, 4, 6, 0)), "blocks_per_group"),
        (("imagenet-preact", 36, 64, (3, 4, 6, 3)), "depth"),
    ],
)
def test_a_size_whose_parts_contradict_each_other_is_refused(arguments: tuple[Any, ...], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Architecture(*arguments)
    assert raised.value.field == field


@pytest.mark.parametrize("block", ["mobilenetv2", "deeplabv3-mobilenetv2"])
@pytest.mark.parametrize("side", [32, 65])
def test_parameters_rise_with_every_step_of_the_multiplier(block: str, side: int) -> None:
    family = FAMILIES[block]
    task = replace(get_task("cifar10"), input_shape=(3, side, side), classes=2, blocks=(block,))
    sizes = [Architecture(block, *family.size(family.default_depths[0], scale)) for scale in family.scales]
    counts = [parameters(each.layers(task)) for each in sizes]
    assert counts == sorted(set(counts))  # hence no two names for one network


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_fully_connected_networks_have_no_groups(block: str) -> None:
    assert Architecture(block, 4, 128).blocks_per_group is None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("block", STEP)
def test_a_network_has_layers_for_the_tasks_it_suits_and_is_refused_for_the_others(task: str, block: str) -> None:
    architecture = Architecture(block, STEP[block] + 2, 4)
    suits = {"plain", "residual"} if task == "rings" else {"basic", "preact", "depthwise"}
    suits = set() if task in ("imagenet", "voc2012", "voc2012-aug") else suits
    if block in suits:
        layers = architecture.layers(get_task(task))
        assert layers[0].shape == get_task(task).input_shape
        assert layers[-1].shape == (get_task(task).classes, 1, 1)
        return
    with pytest.raises(InvalidInput, match=f"does not suit task {task}") as raised:
        architecture.layers(get_task(task))
    assert raised.value.field == "block"
    assert all(other in raised.value.remedy for other in suits)
