"""Stage keys: which runs are the same run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qcore.stages
from qcore import FLOAT, Architecture, BitWidths, Recipe, Stage, get_task, override, stages_of

W2A2 = BitWidths(2, 2)
FLOAT_CHANGES: list[dict[str, Any]] = [
    {"schedule": {"epochs": 21}},
    {"schedule": {"learning_rate": 0.2}},
    {"batch_size": 32},
    {"flip": True},
    {"validation_share": 0.1},
]
RETRAINING_CHANGES: list[dict[str, Any]] = [
    {"schedule": {"epochs": 13}},
    {"schedule": {"weight_decay": 0.1}},
    {"quantizers": {"first_last_weight_bits": None}},
    {"quantizers": {"clipped_share": 0.1}},
    {"quantizers": {"clipping_weight_decay": 0.1}},
]


def short() -> Recipe:
    return get_task("digits").recipe("short")


def stage(bit_widths: BitWidths = FLOAT, **changes: Any) -> Stage:
    made = Stage(get_task("digits"), Architecture("basic", 8, 16), short(), 0, bit_widths)
    return replace(made, **changes)


def keys(**changes: Any) -> tuple[str, str]:
    return stage(**changes).key, stage(W2A2, **changes).key


def test_keys_are_sha256_and_stay_the_same() -> None:
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys())
    assert keys() == keys()
    assert keys()[0] != keys()[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"architecture": Architecture("basic", 8, 17)},
        {"architecture": Architecture("preact", 8, 16)},
        {"task": replace(get_task("digits"), version="2")},
        {"task": replace(get_task("digits"), name="digits-2")},
        *({"recipe": override(short(), {"float_part": change})} for change in FLOAT_CHANGES),
    ],
)
def test_what_decides_the_float_stage_changes_both_keys(changes: dict[str, Any]) -> None:
    assert keys(**changes)[0] != keys()[0]
    assert keys(**changes)[1] != keys()[1]


@pytest.mark.parametrize("change", RETRAINING_CHANGES)
def test_the_retraining_recipe_changes_the_quantized_key_alone(change: dict[str, Any]) -> None:
    changed = keys(recipe=override(short(), {"retraining": change}))
    assert changed[0] == keys()[0]
    assert changed[1] != keys()[1]


def test_every_bit_widths_has_a_key_of_its_own() -> None:
    sides = [None, *range(2, 9)]
    every = [BitWidths(weight, activation) for weight in sides for activation in sides]
    assert len({stage(bit_widths).key for bit_widths in every}) == len(every)


def test_names_that_decide_nothing_change_no_key() -> None:
    assert keys(recipe=short().model_copy(update={"name": "mine"})) == keys()
    assert keys(task=replace(get_task("digits"), title="Other words")) == keys()


def test_a_new_numerics_version_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys()
    monkeypatch.setattr(qcore.stages, "NUMERICS_VERSION", qcore.stages.NUMERICS_VERSION + 1)
    assert not set(keys()) & set(before)


@given(st.lists(st.sampled_from(["W2A2", "W2AF", "WFA2", "W4A8"]), unique=True), st.integers(0, 2**63))
@settings(deadline=None, max_examples=30)
def test_the_stages_of_a_candidate_are_the_float_one_and_one_for_each_bit_widths_in_order(
    names: list[str], seed: int
) -> None:
    bit_widths = tuple(map(BitWidths.parse, names))
    found = stages_of(get_task("digits"), Architecture("basic", 8, 16), short(), seed, bit_widths)
    assert [each.bit_widths for each in found] == [FLOAT, *bit_widths]
    assert {each.seed for each in found} == {seed}
    assert len({each.key for each in found}) == len(found)


def test_a_stage_has_the_epochs_of_its_part_of_the_recipe() -> None:
    recipe = override(short(), {"float_part": {"schedule": {"epochs": 7}}, "retraining": {"schedule": {"epochs": 3}}})
    assert stage(recipe=recipe).epochs == 7
    assert stage(W2A2, recipe=recipe).epochs == 3
    assert stage(W2A2).label == "basic-L8-D16 W2A2 on digits, seed 0"
