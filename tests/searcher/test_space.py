"""Enumerating candidates, against trying every width."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qcore import Architecture, BitWidths, InvalidInput, describe, get_task
from qcore.cost import parameters
from qcore.families import FAMILIES
from qcore.recipe import QuantizerSettings
from searcher.budgets import Budgets
from searcher.space import enumerate_candidates

DIGITS, RINGS = get_task("digits"), get_task("rings")
TASK_OF = {"basic": DIGITS, "preact": DIGITS, "depthwise": DIGITS, "plain": RINGS, "residual": RINGS}
BUDGETS = {"digits": 30_000, "rings": 30_000}
"""The largest budget tried; ``_TRIED_WIDTHS`` goes well beyond what fits it."""
_TRIED_WIDTHS = {"digits": range(3, 30), "rings": range(3, 200)}


@cache
def _parameters(block: str, depth: int, width: int) -> int:
    return parameters(Architecture(block, depth, width).layers(TASK_OF[block]))


def _brute_force(block: str, depth: int, budget: int) -> list[int]:
    """All widths that fit, by trying every one."""
    return [width for width in _TRIED_WIDTHS[TASK_OF[block].name] if _parameters(block, depth, width) <= budget]


def _within(
    parameters: int | None = None, model_bytes: int | None = None, bit_operations: int | None = None
) -> Budgets:
    return Budgets(parameters, model_bytes, bit_operations, BitWidths(2, 2), QuantizerSettings())


def _names(task_name: str, budget: int | Budgets, **choice: list[int] | list[str]) -> list[str]:
    budgets = budget if isinstance(budget, Budgets) else _within(budget)
    return [each.name for each in enumerate_candidates(get_task(task_name), budgets, **choice)]


@pytest.mark.parametrize("task_name", ["digits", "rings"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_candidates_are_the_widest_that_fit_at_every_default_depth_of_every_family(
    task_name: str, data: st.DataObject
) -> None:
    task = get_task(task_name)
    least = min(_parameters(block, FAMILIES[block].default_depths[0], 3) for block in task.default_blocks)
    budget = data.draw(st.integers(least, BUDGETS[task_name]))
    expected = [
        f"{block}-L{depth}-D{max(fitting)}"
        for block in task.default_blocks
        for depth in FAMILIES[block].default_depths
        if (fitting := _brute_force(block, depth, budget))
    ]
    assert _names(task_name, budget) == expected


@pytest.mark.parametrize("block", TASK_OF)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_with_every_width_given_the_candidates_are_all_that_fit(block: str, data: st.DataObject) -> None:
    task, depths = TASK_OF[block], list(FAMILIES[block].default_depths[:3])
    budget = data.draw(st.integers(_parameters(block, depths[0], 3), BUDGETS[task.name]))
    widths = data.draw(st.permutations(_TRIED_WIDTHS[task.name]))
    expected = [f"{block}-L{depth}-D{width}" for depth in depths for width in _brute_force(block, depth, budget)]
    assert _names(task.name, budget, blocks=[block], depths=depths, widths=widths) == expected


FIELDS = {
    "parameter_budget": "parameters",
    "model_bytes_budget": "model_bytes",
    "bit_operations_budget": "bit_operations",
}
COUNTED_AT = [
    (BitWidths(2, 2), QuantizerSettings()),
    (BitWidths(4, None), QuantizerSettings(first_last_weight_bits=None)),
    (BitWidths(None, 3), QuantizerSettings(shortcut_bits=None)),
]


@cache
def _costs(block: str, depth: int, width: int, bits: BitWidths, quantizers: QuantizerSettings) -> dict[str, int]:
    described = describe(Architecture(block, depth, width), TASK_OF[block], [bits], quantizers)
    return {
        "parameters": described.parameters,
        "model_bytes": described.model_bytes[str(bits)],
        "bit_operations": described.bit_operations[str(bits)],
    }


def _default_depths(task_name: str) -> list[tuple[str, int]]:
    blocks = get_task(task_name).default_blocks
    return [(block, depth) for block in blocks for depth in FAMILIES[block].default_depths]


@st.composite
def _budgets(draw: st.DrawFn, task_name: str, width: int) -> Budgets:
    """One to three budgets, all of them too small for any network of that width."""
    bits, quantizers = draw(st.sampled_from(COUNTED_AT))
    costs = [_costs(block, depth, width, bits, quantizers) for block, depth in _default_depths(task_name)]
    given = draw(st.sets(st.sampled_from(list(FIELDS.values())), min_size=1))
    drawn = {
        name: draw(st.integers(1, min(each[name] for each in costs) - 1)) if name in given else None
        for name in FIELDS.values()
    }
    return Budgets(**drawn, bit_widths=bits, quantizers=quantizers)


def _widest_within(budgets: Budgets, task_name: str) -> list[str]:
    """The widest of each block and depth, by trying every width."""

    def fits(block: str, depth: int, width: int) -> bool:
        costs = _costs(block, depth, width, budgets.bit_widths, budgets.quantizers)
        return all(getattr(budgets, name) is None or cost <= getattr(budgets, name) for name, cost in costs.items())

    return [
        f"{block}-L{depth}-D{fitting[-1]}"
        for block, depth in _default_depths(task_name)
        if (fitting := [width for width in _TRIED_WIDTHS[task_name] if fits(block, depth, width)])
    ]


@pytest.mark.parametrize("task_name", ["digits", "rings"])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_candidates_are_the_widest_that_fit_all_budgets(task_name: str, data: st.DataObject) -> None:
    budgets = data.draw(_budgets(task_name, _TRIED_WIDTHS[task_name][-1]))
    expected = _widest_within(budgets, task_name)
    if expected:
        assert _names(task_name, budgets) == expected
    else:
        with pytest.raises(InvalidInput, match="leaves no candidate"):
            _names(task_name, budgets)


@pytest.mark.parametrize("block", TASK_OF)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_budget_of_any_kind_gives_the_widest_however_wide(block: str, data: st.DataObject) -> None:
    depth, width = data.draw(st.sampled_from(FAMILIES[block].default_depths[:2])), data.draw(st.integers(3, 300))
    counted_at, name = data.draw(st.sampled_from(COUNTED_AT)), data.draw(st.sampled_from(list(FIELDS.values())))
    enough, too_much = (_costs(block, depth, each, *counted_at)[name] for each in (width, width + 1))
    budget = {name: data.draw(st.integers(enough, too_much - 1))}
    budgets = Budgets(**dict.fromkeys(FIELDS.values()) | budget, bit_widths=counted_at[0], quantizers=counted_at[1])
    assert [each.width for each in enumerate_candidates(TASK_OF[block], budgets, [block], [depth])] == [width]


@pytest.mark.parametrize("task_name", ["digits", "rings"])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_budgets_that_together_fit_nothing_are_refused_with_the_least_that_do(
    task_name: str, data: st.DataObject
) -> None:
    budgets = data.draw(_budgets(task_name, 6))
    assume(not _widest_within(budgets, task_name))
    with pytest.raises(InvalidInput) as refused:
        _names(task_name, budgets)
    field, told = refused.value.field, refused.value.remedy
    stated = re.fullmatch(r"use at least (\d+)((?:, and a \w+ of at least \d+)*) \((.+)\)", told)
    assert stated is not None, told
    least = {field: stated[1]} | dict(re.findall(r"and a (\w+) of at least (\d+)", stated[2]))
    raised = {FIELDS[each]: int(needed) for each, needed in least.items()}
    assert refused.value.value == getattr(budgets, FIELDS[field])
    assert all(needed > getattr(budgets, name) for name, needed in raised.items())
    assert stated[3] in _names(task_name, replace(budgets, **raised))
    one_less = replace(budgets, **{name: needed - 1 for name, needed in raised.items()})
    assert _widest_within(one_less, task_name) == []


def test_a_budget_that_the_widest_network_meets_exactly_is_enough_for_it() -> None:
    exact = _parameters("basic", 8, 6)
    assert _names("digits", exact, blocks=["basic"], depths=[8]) == ["basic-L8-D6"]
    assert _names("digits", exact - 1, blocks=["basic"], depths=[8]) == ["basic-L8-D5"]


def test_the_width_of_a_candidate_never_exceeds_the_widest_there_is() -> None:
    assert _names("rings", _within(bit_operations=10**15), blocks=["plain"], depths=[3]) == ["plain-L3-D8192"]


MOBILENETS = [f"mobilenetv2-x{hundredths / 100}" for hundredths in range(5, 805, 5)]


@settings(deadline=None, max_examples=15)
@given(budget=st.integers(72_000, 5_000_000))
def test_the_widest_multiplier_within_the_budget_is_the_candidate(budget: int) -> None:
    fitting = [name for name in MOBILENETS if parameters(Architecture.parse(name).layers(DIGITS)) <= budget]
    assert _names("digits", budget, blocks=["mobilenetv2"]) == fitting[-1:]


def test_multipliers_whose_first_layer_has_a_given_width_are_candidates() -> None:
    expected = [name for name in MOBILENETS if Architecture.parse(name).width in (8, 24)]
    assert _names("digits", 10**8, blocks=["mobilenetv2"], widths=[24, 8]) == expected
    assert {name[-4:] for name in expected} > {"x0.1", "0.75"}


def test_a_width_that_no_multiplier_gives_is_refused_with_those_that_one_does() -> None:
    with pytest.raises(InvalidInput) as refused:
        _names("digits", 10**6, blocks=["mobilenetv2"], widths=[17])
    assert (refused.value.field, refused.value.value) == ("widths", [17])
    assert refused.value.remedy.startswith("use 8, 16, 24, 32, ")


@pytest.mark.parametrize("budget", [100_000, 25_600_000])
def test_networks_for_large_images_have_the_block_lists_of_table_1_at_the_widest_that_fits(budget: int) -> None:
    lists = {
        "imagenet-preact": {18: "2.2.2.2", 26: "3.3.3.3", 34: "3.4.6.3"},
        "imagenet-bottleneck": {44: "3.4.5.2", 50: "3.4.6.3", 101: "3.4.23.3"},
    }
    task = replace(DIGITS, input_shape=(3, 224, 224), classes=1000, blocks=("mobilenetv2", *lists))
    found = [each.name for each in enumerate_candidates(task, _within(budget), list(lists))]
    wider = []
    for block, by_depth in lists.items():
        for depth, blocks in by_depth.items():
            fitting = [
                name
                for width in range(3, 100)
                if parameters(Architecture.parse(name := f"{block}-L{depth}-D{width}-B{blocks}").layers(task)) <= budget
            ]
            wider += fitting[-1:]
    assert found == wider
    if budget == 25_600_000:
        assert "imagenet-bottleneck-L50-D64-B3.4.6.3" in found
        assert {each.block for each in enumerate_candidates(task, _within(budget))} == {"mobilenetv2", *lists}


def test_a_search_that_names_no_blocks_takes_those_with_a_choice_of_depths() -> None:
    assert "mobilenetv2" in DIGITS.blocks
    assert {each.block for each in enumerate_candidates(DIGITS, _within(10**6))} == {"basic", "preact", "depthwise"}


WIDE = _parameters("basic", 20, 32)
BYTES, OPERATIONS = (_costs("basic", 20, 32, *COUNTED_AT[0])[name] for name in ("model_bytes", "bit_operations"))


def test_named_architectures_are_the_candidates_in_their_order() -> None:
    names = ["mobilenetv2-x0.1", "resnet20", "basic-L8-D3"]
    assert _names("digits", 10**6, architectures=names) == ["mobilenetv2-x0.1", "basic-L20-D16", "basic-L8-D3"]


@pytest.mark.parametrize(
    ("names", "value", "problem", "remedy"),
    [
        (["resnet20", "basic-L20-D16"], "basic-L20-D16", "is resnet20 again", "name each once"),
        (["resnet20", "resnet20-x1"], "resnet20-x1", "is resnet20 again", "name each once"),
        (["resnet20", "resnet20"], "resnet20", "is there twice", "name each once"),
        (["basic-L8-D3", "basic"], "basic", "is not a name", "basic-L<depth>-D<width>"),
        (["basic-L9-D3"], "basic-L9-D3", "depth 9 does not exist", "L8 or L14"),
        (["mobilenetv2-x0.50"], "mobilenetv2-x0.50", "is not the canonical name", "use mobilenetv2-x0.5"),
        (["plain-L4-D8"], "plain-L4-D8", "does not suit task digits", "use one of basic"),
        (["resnet34"], "resnet34", "does not suit task digits", "use one of basic"),
        (["resnet20-x2"], "resnet20-x2", f"has {WIDE} parameters, more than the budget of 500000", f"to {WIDE}"),
    ],
)
def test_named_architectures_that_cannot_be_candidates_are_refused_by_name(
    names: list[str], value: str, problem: str, remedy: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        _names("digits", 500_000, architectures=names)
    assert (refused.value.field, refused.value.value) == ("architectures", value)
    assert problem in refused.value.problem
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("budgets", "problem", "remedy"),
    [
        (
            _within(model_bytes=BYTES - 1),
            f"has {BYTES} bytes at W2A2, more than the budget of {BYTES - 1}",
            f"leave it out or raise model_bytes_budget to {BYTES}",
        ),
        (
            _within(WIDE, BYTES, 9),
            f"has {OPERATIONS} bit operations at W2A2, more than the budget of 9",
            f"leave it out or raise bit_operations_budget to {OPERATIONS}",
        ),
        (
            _within(7, 8, OPERATIONS),
            f"has {WIDE} parameters, more than the budget of 7, and {BYTES} bytes at W2A2, more than the budget of 8",
            f"leave it out or raise parameter_budget to {WIDE} and model_bytes_budget to {BYTES}",
        ),
    ],
)
def test_a_named_architecture_over_budgets_is_refused_with_each_and_what_it_needs(
    budgets: Budgets, problem: str, remedy: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        _names("digits", budgets, architectures=["resnet20-x2"])
    assert (refused.value.field, refused.value.value) == ("architectures", "resnet20-x2")
    assert (refused.value.problem, refused.value.remedy) == (problem, remedy)
    enough = _within(WIDE, BYTES, OPERATIONS)
    assert _names("digits", enough, architectures=["resnet20-x2"]) == ["basic-L20-D32"]


@pytest.mark.parametrize("beside", [{"blocks": ["basic"]}, {"depths": [8]}, {"widths": [3]}])
def test_architectures_exclude_blocks_depths_and_widths(beside: dict[str, list[int] | list[str]]) -> None:
    with pytest.raises(InvalidInput, match="architectures") as refused:
        _names("digits", 10**6, architectures=["basic-L8-D3"], **beside)
    assert {refused.value.field: refused.value.value} == beside


def test_given_widths_and_depths_may_repeat_and_come_in_any_order() -> None:
    names = _names("digits", 50_000, blocks=["basic", "basic"], depths=[14, 8, 14], widths=[5, 3, 5])
    assert names == ["basic-L8-D3", "basic-L8-D5", "basic-L14-D3", "basic-L14-D5"]


def test_each_block_takes_the_given_depths_that_it_has() -> None:
    names = _names("digits", 50_000, depths=[11, 8], widths=[3])
    assert names == ["basic-L8-D3", "preact-L8-D3", "depthwise-L11-D3"]


def test_depths_beside_the_default_ones_are_candidates_too() -> None:
    assert _names("digits", 200_000, blocks=["basic"], depths=[38], widths=[3]) == ["basic-L38-D3"]


@pytest.mark.parametrize(
    ("choice", "field", "value", "remedy"),
    [
        ({"blocks": ["basic", "vgg"]}, "blocks", "vgg", "use basic, preact, depthwise"),
        ({"blocks": ["plain"]}, "blocks", "plain", "use basic, preact, depthwise"),
        ({"depths": [8, 9]}, "depths", 9, "basic has L8, L14"),
        ({"depths": [9]}, "depths", 9, "depthwise has L11, L20"),
        ({"depths": [0]}, "depths", 0, "basic has L8"),
        ({"depths": [-4]}, "depths", -4, "basic has L8"),
        ({"blocks": ["mobilenetv2"], "depths": [20]}, "depths", [20], "mobilenetv2 has L53 only"),
        ({"depths": [10**9 * 6 + 2]}, "depths", 10**9 * 6 + 2, "basic has L8"),
        ({"blocks": ["basic", "depthwise"], "depths": [8]}, "depths", [8], "depthwise has L11, L20"),
        ({"blocks": ["basic"], "depths": [8, 11]}, "depths", 11, "basic has L8"),
        ({"widths": [3, 2]}, "widths", 2, "use 3 to 8192"),
        ({"widths": [8193]}, "widths", 8193, "use 3 to 8192"),
        ({"widths": [-3]}, "widths", -3, "use 3 to 8192"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_with_field_and_remedy(
    choice: dict[str, list[int] | list[str]], field: str, value: object, remedy: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        enumerate_candidates(DIGITS, _within(50_000), **choice)
    assert refused.value.field == field
    assert refused.value.value == value
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("task_name", "choice"),
    [
        ("digits", {}),
        ("rings", {}),
        ("digits", {"blocks": ["depthwise"]}),
        ("digits", {"blocks": ["mobilenetv2"]}),
        ("digits", {"blocks": ["mobilenetv2"], "widths": [16, 24]}),
        ("digits", {"depths": [14, 20]}),
        ("digits", {"widths": [9, 7, 30]}),
        ("rings", {"blocks": ["residual"], "depths": [5], "widths": [10]}),
    ],
)
def test_a_budget_that_fits_nothing_is_refused_with_the_least_that_does(
    task_name: str, choice: dict[str, list[int] | list[str]]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        _names(task_name, 1, **choice)
    assert refused.value.field == "parameter_budget"
    stated = re.fullmatch(r"use at least (\d+) \((.+)\)", refused.value.remedy)
    assert stated is not None
    least = int(stated[1])
    assert stated[2] in _names(task_name, least, **choice)
    with pytest.raises(InvalidInput, match="leaves no candidate"):
        _names(task_name, least - 1, **choice)
