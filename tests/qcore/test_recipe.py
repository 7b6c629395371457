"""Recipes: the published settings, their identity, and what an override may and may not change."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from qcore import TASKS, InvalidInput, Recipe, get_task, override
from qcore.recipe import PAPER_CIFAR10, Schedule, differences

BASE = PAPER_CIFAR10

# Another value for every setting that has more than one.
SCHEDULE = {
    "epochs": 190,
    "optimizer": "adam",
    "learning_rate": 0.05,
    "poly_power": 0.8,
    "milestones": [20],
    "warmup_epochs": 3,
    "epoch_share": 0.5,
    "momentum": 0.8,
    "weight_decay": 1e-4,
}
OTHER_VALUES = {
    "float_part": {
        "schedule": SCHEDULE,
        "batch_size": 64,
        "augmentation": "scale-crop",
        "crop_padding": 2,
        "flip": False,
        "validation_share": 0.1,
        "precision": "bf16",
        "path": "plain",
    },
    "retraining": {
        "schedule": SCHEDULE,
        "quantizers": {
            "first_last_weight_bits": None,
            "shortcut_bits": 4,
            "weight_levels": "mid_rise",
            "weight_step": "learned",
            "step_refresh": "step",
            "activation_step": "learned",
            "requantized_sums": False,
            "initial_clipping_value": 10.0,
            "most_scale_change": 0.5,
            "clipped_share": 0.01,
            "clipping_weight_decay": 1e-4,
        },
        "lipschitz_scale": 1e-4,
        "most_gradient_norm": 10.0,
    },
}
DECAYS = {(part, "schedule", "decay") for part in OTHER_VALUES}
"""Not among them: another decay goes without milestones, so it is no change alone."""
OPTIONAL_PARTS = {("float_part", "checkpoint"), ("retraining", "cyclic")}

Path = tuple[str, ...]


def leaves(values: dict[str, Any], path: Path = ()) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for key, value in values.items():
        found += leaves(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]
    return found


def settings_of(part: BaseModel, path: Path = ()) -> set[Path]:
    """Every setting with more than one possible value."""
    found: set[Path] = set()
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            found |= settings_of(value, (*path, name))
        elif not (isinstance(value, str) and len(get_args(field.annotation)) == 1):
            found.add((*path, name))
    return found


def nested(path: Path, value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


def refusal(*path: str, value: Any, recipe: Recipe = BASE) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        override(recipe, nested(path, value))
    assert str(raised.value).startswith((f"{raised.value.field}: ", f"{raised.value.field} "))
    assert raised.value.remedy
    return raised.value


def test_the_paper_recipe_has_the_published_numbers() -> None:
    assert get_task("cifar10").recipe("paper") is BASE
    first, second = BASE.float_part.schedule, BASE.retraining.schedule
    assert (first.epochs, first.learning_rate, first.decay, first.milestones) == (200, 0.1, "steps", (100, 150))
    assert (first.optimizer, first.momentum, first.weight_decay, first.warmup_epochs) == ("sgd", 0.9, 5e-4, 0)
    assert BASE.float_part.batch_size == 128
    assert BASE.float_part.validation_share == 0
    assert (second.epochs, second.learning_rate, second.decay, second.milestones) == (100, 0.01, "steps", (50, 80))
    assert (second.optimizer, second.momentum, second.weight_decay, second.warmup_epochs) == ("sgd", 0.9, 0, 0)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_short_recipe_by_default_and_a_paper_recipe(task: str) -> None:
    assert [recipe.name for recipe in TASKS[task].recipes] == ["short", "paper"]
    for recipe in TASKS[task].recipes:
        assert TASKS[task].recipe(recipe.name) is recipe
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="recipe: 'long' is not a recipe of task digits; use one of short, paper"):
        get_task("digits").recipe("long")


def test_the_name_is_no_part_of_a_recipes_identity() -> None:
    assert BASE.model_copy(update={"name": "other"}).hash() == BASE.hash()


def test_the_other_values_below_cover_every_setting() -> None:
    assert {path for path, _ in leaves(OTHER_VALUES)} == settings_of(BASE) - {("name",)} - DECAYS - OPTIONAL_PARTS


@pytest.mark.parametrize(
    ("path", "value", "filled"),
    [
        (
            ("float_part", "checkpoint"),
            {"path": "nets/a.safetensors"},
            {"path": "nets/a.safetensors", "sha256": None, "fine_tune": False},
        ),
        (
            ("retraining", "cyclic"),
            {"cycle_epochs": 4},
            {"epochs": 40, "cycle_epochs": 4, "base_learning_rate": 1e-3},
        ),
    ],
)
def test_an_optional_part_is_absent_until_it_is_given(path: Path, value: Any, filled: Any) -> None:
    part = getattr(BASE, path[0])
    assert getattr(part, path[1]) is None
    changed = override(BASE, nested(path, value))
    assert getattr(changed, path[0]).model_dump()[path[1]] == filled
    assert getattr(changed, path[0]).hash() != part.hash()


def test_epochs_count_cycles_and_a_float_network_that_is_not_trained_has_none() -> None:
    cyclic = override(BASE, {"retraining": {"cyclic": {"epochs": 16}}})
    assert cyclic.retraining.epochs == BASE.retraining.schedule.epochs + 16
    given = {"path": "nets/a.safetensors"}
    assert override(BASE, {"float_part": {"checkpoint": given}}).float_part.epochs == 0
    tuned = override(BASE, {"float_part": {"checkpoint": given | {"fine_tune": True}}})
    assert tuned.float_part.epochs == BASE.float_part.schedule.epochs


@pytest.mark.parametrize(("path", "value"), leaves(OTHER_VALUES), ids=lambda value: str(value))
def test_a_changed_setting_changes_the_hash_of_its_own_part_and_of_the_recipe(path: Path, value: Any) -> None:
    changed = override(BASE, nested(path, value))
    assert changed.hash() != BASE.hash()
    assert (changed.float_part.hash() != BASE.float_part.hash()) == (path[0] == "float_part")
    assert (changed.retraining.hash() != BASE.retraining.hash()) == (path[0] == "retraining")
    assert changed.name == "paper*"
    assert dict(leaves(changed.model_dump(mode="json"))) == dict(leaves(BASE.model_dump(mode="json"))) | {
        path: value,
        ("name",): "paper*",
    }


@pytest.mark.parametrize("part", OTHER_VALUES)
def test_another_decay_changes_the_hash(part: str) -> None:
    steps, cosine, poly = (
        override(BASE, {part: {"schedule": {"decay": decay, "milestones": []}}})
        for decay in ("steps", "cosine", "poly")
    )
    assert len({BASE.hash(), steps.hash(), cosine.hash(), poly.hash()}) == 4


def test_a_stored_recipe_with_milestones_of_no_effect_can_still_be_read() -> None:
    values = get_task("digits").recipe("short").model_dump(mode="json")
    values["float_part"]["schedule"]["milestones"] = [3]
    assert Recipe.stored(values).float_part.schedule.milestones == (3,)


@given(st.lists(st.sampled_from(leaves(OTHER_VALUES)), unique_by=lambda leaf: leaf[0]))
@settings(deadline=None, max_examples=60)
def test_overrides_in_any_order_and_one_by_one_or_undone_come_to_equal_hashes(changes: list[tuple[Path, Any]]) -> None:
    forward, backward = BASE, BASE
    for path, value in changes:
        forward = override(forward, nested(path, value))
    for path, value in reversed(changes):
        backward = override(backward, nested(path, value))
    assert forward.hash() == backward.hash()
    assert (forward.hash() == BASE.hash()) == (not changes)
    original = dict(leaves(BASE.model_dump(mode="json")))
    for path, _ in changes:
        forward = override(forward, nested(path, original[path]))
    assert forward.hash() == BASE.hash()


schedules = st.builds(
    Schedule,
    epochs=st.integers(5, 7),
    optimizer=st.sampled_from(["sgd", "adam"]),
    learning_rate=st.sampled_from([1, 1.0, 0.5]),
    weight_decay=st.sampled_from([0, 0.0, -0.0]),
    decay=st.just("steps"),
    milestones=st.sampled_from([(), (1,), (1, 2)]),
    momentum=st.sampled_from([0, 0.0, 0.9]),
)


@given(schedules, schedules)
@settings(deadline=None, max_examples=200)
def test_schedules_have_equal_hashes_exactly_when_they_are_equal(one: Schedule, other: Schedule) -> None:
    assert (one.hash() == other.hash()) == (one == other)


def test_an_override_that_changes_nothing_is_the_recipe_itself() -> None:
    assert override(BASE, {}) is BASE
    assert override(BASE, {"float_part": {"batch_size": 128, "schedule": {}}}) is BASE


@pytest.mark.parametrize(("path", "value"), leaves(OTHER_VALUES), ids=lambda value: str(value))
def test_what_an_override_changed_is_what_differs(path: Path, value: Any) -> None:
    assert differences(override(BASE, nested(path, value)), BASE) == {".".join(path): value}


def test_an_optional_part_differs_in_every_setting_it_has_or_as_a_whole() -> None:
    cyclic = override(BASE, {"retraining": {"cyclic": {"epochs": 16}}})
    part = {"epochs": 16, "cycle_epochs": 8, "base_learning_rate": 1e-3}
    assert differences(cyclic, BASE) == {f"retraining.cyclic.{name}": value for name, value in part.items()}
    assert differences(BASE, cyclic) == {"retraining.cyclic": None}
    assert differences(BASE, BASE) == {}


@pytest.mark.parametrize("name", ["paper", "paper*", "paper, 2+1 epochs"])
def test_a_recipe_is_compared_with_the_one_of_its_task_that_it_is_named_after(name: str) -> None:
    task = get_task("digits")
    changed = override(task.recipe("paper"), {"retraining": {"lipschitz_scale": 1e-4}})
    assert task.recipe_changes(changed.model_copy(update={"name": name})) == {"retraining.lipschitz_scale": 1e-4}


def test_an_override_leaves_the_recipe_it_starts_from_alone() -> None:
    before = BASE.model_dump_json()
    override(BASE, {"float_part": {"schedule": {"epochs": 300}}})
    assert BASE.model_dump_json() == before


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (("nonesuch",), "float_part"),
        (("float_part", "epochs"), "schedule"),
        (("float_part", "schedule", "lr"), "learning_rate"),
        (("retraining", "quantizers", "bits"), "shortcut_bits"),
        (("float_part", "schedule", ""), "learning_rate"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_known_ones(path: Path, known: str) -> None:
    error = refusal(*path, value=1)
    assert error.field == ".".join(["recipe", *path])
    assert known in error.remedy


@pytest.mark.parametrize("value", [3, None, "epochs", [], True])
@pytest.mark.parametrize("path", [("float_part",), ("retraining", "schedule")])
def test_a_group_of_settings_cannot_be_replaced_by_a_value(path: Path, value: Any) -> None:
    error = refusal(*path, value=value)
    assert error.field == ".".join(["recipe", *path])
    assert error.value == value
    assert "must be an object" in error.problem


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("float_part", "schedule", "epochs"), "90"),
        (("float_part", "schedule", "epochs"), 90.0),
        (("float_part", "schedule", "epochs"), True),
        (("float_part", "schedule", "epochs"), None),
        (("float_part", "schedule", "epochs"), 0),
        (("float_part", "schedule", "epochs"), 1001),
        (("float_part", "schedule", "epochs"), 10**30),
        (("float_part", "schedule", "learning_rate"), "0.1"),
        (("float_part", "schedule", "learning_rate"), True),
        (("float_part", "schedule", "learning_rate"), 0),
        (("float_part", "schedule", "learning_rate"), 10.5),
        (("float_part", "schedule", "momentum"), 1.0),
        (("float_part", "schedule", "weight_decay"), -1e-9),
        (("float_part", "schedule", "warmup_epochs"), False),
        (("float_part", "schedule", "warmup_epochs"), -1),
        (("float_part", "schedule", "optimizer"), "rmsprop"),
        (("float_part", "schedule", "decay"), ["steps"]),
        (("float_part", "schedule", "milestones"), 100),
        (("float_part", "batch_size"), 1),
        (("float_part", "batch_size"), 4097),
        (("float_part", "flip"), 1),
        (("float_part", "crop_padding"), 33),
        (("float_part", "validation_share"), 0.51),
        (("float_part", "precision"), "fp16"),
        (("retraining", "quantizers", "first_last_weight_bits"), 1),
        (("retraining", "quantizers", "first_last_weight_bits"), 9),
        (("retraining", "quantizers", "shortcut_bits"), 1),
        (("retraining", "quantizers", "clipped_share"), -0.1),
        (("retraining", "quantizers", "weight_levels"), "four"),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_refused_under_the_settings_path(path: Path, value: Any) -> None:
    error = refusal(*path, value=value)
    assert error.field == ".".join(["recipe", *path])
    assert error.value == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "path", [("float_part", "schedule", "learning_rate"), ("retraining", "quantizers", "clipped_share")]
)
def test_numbers_that_are_not_finite_are_refused(path: Path, value: float) -> None:
    error = refusal(*path, value=value)
    assert error.field == ".".join(["recipe", *path])
    assert error.remedy == "give a finite number"


@pytest.mark.parametrize(
    ("changes", "field", "value", "remedy"),
    [
        ({"epochs": 150}, "milestones", [100, 150], "use none above 149, or more epochs"),
        ({"milestones": [100, 200]}, "milestones", [100, 200], "use none above 199, or more epochs"),
        ({"milestones": [150, 100]}, "milestones", [150, 100], "use [100, 150]"),
        ({"milestones": [100, 100]}, "milestones", [100, 100], "use [100]"),
        ({"decay": "cosine"}, "milestones", [100, 150], "use [], or decay 'steps'"),
        ({"decay": "poly", "milestones": [7]}, "milestones", [7], "use [], or decay 'steps'"),
        ({"epochs": 5, "milestones": [], "warmup_epochs": 5}, "warmup_epochs", 5, "use at most 4, or more epochs"),
    ],
)
def test_of_settings_that_contradict_each_other_one_is_named_with_its_value_and_what_to_use(
    changes: dict[str, Any], field: str, value: Any, remedy: str
) -> None:
    error = refusal("float_part", "schedule", value=changes)
    assert (error.field, error.value) == (f"recipe.float_part.schedule.{field}", value)
    assert error.remedy == remedy


@pytest.mark.parametrize(
    ("path", "value", "remedy"),
    [
        (("float_part", "batch_size"), 1, "give at least 2"),
        (("float_part", "schedule", "optimizer"), "rmsprop", "give 'sgd' or 'adam'"),
        (
            ("retraining", "quantizers", "first_last_weight_bits"),
            9,
            "give at most 8 or 'same'",
        ),
        (("float_part", "checkpoint"), {"path": ""}, "give at least 1 character"),
        (("float_part", "checkpoint"), {}, "add it"),
        (("float_part", "checkpoint"), {"path": "a", "speed": 1}, "leave it out"),
    ],
)
def test_the_remedy_says_what_a_setting_can_be(path: Path, value: Any, remedy: str) -> None:
    assert refusal(*path, value=value).remedy == remedy


def test_one_wrong_milestone_is_named_by_its_place() -> None:
    assert refusal("float_part", "schedule", "milestones", value=[100, 0]).field.endswith("schedule.milestones.1")
