"""Search requests: what is refused, what stands for what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import save_file

from qcore import Architecture, BitWidths, InvalidInput, Network, describe, get_task
from qcore.numerics import resolve_numerics
from searcher.budgets import Budgets
from searcher.named import parse_bit_widths, recipe_from_text
from searcher.plan import plan
from searcher.request import SearchRequest

DIGITS = get_task("digits")
SHORT, PAPER = (resolve_numerics(DIGITS.recipe(name), DIGITS, "cpu") for name in ("short", "paper"))
FLOAT_HASH = SHORT.float_part.hash()


def _request(**fields: Any) -> SearchRequest:
    return SearchRequest(**({"task": "digits", "parameter_budget": 20_000} | fields))


def _refusal(**fields: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        plan(_request(**fields))
    return refused.value


def test_task_and_budget_are_enough() -> None:
    planned = plan(_request())
    assert planned.task is DIGITS
    assert planned.recipe == SHORT
    assert [str(bits) for bits in planned.bit_widths] == ["W2A2", "W2AF", "WFA2"]
    assert (planned.seeds, planned.engine, planned.max_evaluations) == ((0,), "optuna", None)
    assert planned.budgets == Budgets(20_000, None, None, BitWidths(2, 2), SHORT.retraining.quantizers)
    assert {candidate.block for candidate in planned.candidates} == {"basic", "preact", "depthwise"}


def test_a_plan_keeps_what_was_asked_in_its_order() -> None:
    planned = plan(
        _request(
            bit_widths=["W4A8", "W2A2"], blocks=["basic"], depths=[8], widths=[4, 3], seeds=[7, 2], max_evaluations=3
        )
    )
    assert planned.bit_widths == (BitWidths(4, 8), BitWidths(2, 2))
    assert planned.candidates == (Architecture("basic", 8, 3), Architecture("basic", 8, 4))
    assert (planned.seeds, planned.max_evaluations) == ((7, 2), 3)


@pytest.mark.parametrize(
    "field", ["parameter_budget", "model_bytes_budget", "bit_operations_budget", "max_evaluations"]
)
@pytest.mark.parametrize("value", [True, 5000.0, 5000.5, "5000", 0, -1, 10**15 + 1, 10**400, float("inf"), [5000]])
def test_a_number_of_another_type_or_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        _request(**{field: value})
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize("field", ["depths", "widths", "seeds"])
@pytest.mark.parametrize("value", [True, 8.0, "8", None])
def test_a_list_of_numbers_holds_nothing_else(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        _request(**{field: [8, value]})
    assert [error["loc"] for error in refused.value.errors()] == [(field, 1)]


@pytest.mark.parametrize("text", ["true", "5000.0", '"5000"', "5e3", "0", "-5"])
def test_json_numbers_are_as_strict(text: str) -> None:
    with pytest.raises(ValidationError):
        SearchRequest.model_validate_json(f'{{"task": "digits", "parameter_budget": {text}}}')


def test_the_bounds_themselves_are_taken() -> None:
    assert _request(parameter_budget=1).parameter_budget == 1
    assert _request(parameter_budget=10**8, max_evaluations=1, seeds=[0, 2**31 - 1]).parameter_budget == 10**8


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"task": 5}, ("task",)),
        ({"task": None}, ("task",)),
        ({"task": "d" * 65}, ("task",)),
        ({"engine": "random"}, ("engine",)),
        ({"engine": None}, ("engine",)),
        ({"bit_widths": "W2A2"}, ("bit_widths",)),
        ({"bit_widths": None}, ("bit_widths",)),
        ({"bit_widths": []}, ("bit_widths",)),
        ({"bit_widths": ["W2A2"] * 17}, ("bit_widths",)),
        ({"bit_widths": [22]}, ("bit_widths", 0)),
        ({"blocks": []}, ("blocks",)),
        ({"blocks": "basic"}, ("blocks",)),
        ({"depths": []}, ("depths",)),
        ({"architectures": []}, ("architectures",)),
        ({"architectures": ["basic-L8-D4"] * 1001}, ("architectures",)),
        ({"architectures": "basic-L8-D4"}, ("architectures",)),
        ({"architectures": ["basic-L8-D4" + "0" * 60]}, ("architectures", 0)),
        ({"depths": list(range(101))}, ("depths",)),
        ({"widths": []}, ("widths",)),
        ({"seeds": []}, ("seeds",)),
        ({"seeds": [-1]}, ("seeds", 0)),
        ({"seeds": [2**31]}, ("seeds", 0)),
        ({"seeds": list(range(33))}, ("seeds",)),
        ({"budget": 5000}, ("budget",)),
    ],
)
def test_a_field_that_is_unknown_or_of_another_form_is_refused(
    fields: dict[str, Any], location: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as refused:
        _request(**fields)
    assert [error["loc"] for error in refused.value.errors()] == [location]


def test_a_task_is_required() -> None:
    with pytest.raises(ValidationError, match="task"):
        SearchRequest(parameter_budget=20_000)


def test_at_least_one_budget_is_required() -> None:
    refused = _refusal(parameter_budget=None)
    assert refused.field == "parameter_budget"
    assert refused.problem == "is missing, and so are model_bytes_budget and bit_operations_budget"
    assert plan(_request(parameter_budget=None, bit_operations_budget=10**6)).candidates


def test_bytes_and_bit_operations_are_counted_at_the_first_bit_widths() -> None:
    budgets = {"parameter_budget": None, "model_bytes_budget": 8000, "bit_operations_budget": 10**8}
    at_2_bits, at_8_bits = (
        plan(_request(**budgets, bit_widths=names, blocks=["basic"], depths=[8]))
        for names in (["W2A2", "W8A8"], ["W8A8", "W2A2"])
    )
    assert at_8_bits.budgets == replace(at_2_bits.budgets, bit_widths=BitWidths(8, 8))
    (wide,), (narrow,) = at_2_bits.candidates, at_8_bits.candidates
    assert wide.width > narrow.width
    for architecture in (wide, replace(wide, width=wide.width + 1)):
        fits = describe(architecture, DIGITS).model_bytes["W2A2"] <= 8000
        assert fits == (architecture == wide)


def test_bytes_are_counted_with_the_recipes_quantizers() -> None:
    exact = describe(Architecture("basic", 8, 8), DIGITS).model_bytes["W2A2"]
    fields = {"parameter_budget": None, "model_bytes_budget": exact, "blocks": ["basic"], "depths": [8]}
    float_ends = {"retraining": {"quantizers": {"first_last_weight_bits": None}}}
    (wide,), (narrow,) = (plan(_request(**fields, recipe=recipe)).candidates for recipe in (None, float_ends))
    assert (wide.width, narrow.width) == (8, 7)


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        _request().parameter_budget = 5


@pytest.mark.parametrize(
    ("fields", "field", "value", "remedy"),
    [
        ({"task": "mnist"}, "task", "mnist", "use one of digits"),
        ({"seeds": [3, 1, 3]}, "seeds", 3, "name each once"),
        ({"bit_widths": ["W2A2", "W4A4", "W2A2"]}, "bit_widths", "W2A2", "name each once"),
        ({"bit_widths": ["W2A2", "float"]}, "bit_widths", "float", "leave it out"),
        ({"bit_widths": ["WFAF"]}, "bit_widths", "WFAF", "2 to 8 bits"),
        ({"bit_widths": ["W1A2"]}, "bit_widths", "W1A2", "2 to 8 bits"),
        ({"bit_widths": ["W2A1"]}, "bit_widths", "W2A1", "2 to 8 bits"),
        ({"bit_widths": ["W9A2"]}, "bit_widths", "W9A2", "2 to 8 bits"),
        ({"bit_widths": ["w2a2"]}, "bit_widths", "w2a2", "2 to 8 bits"),
        ({"bit_widths": [" W2A2"]}, "bit_widths", " W2A2", "2 to 8 bits"),
        ({"bit_widths": [""]}, "bit_widths", "", "2 to 8 bits"),
        ({"blocks": ["vgg"]}, "blocks", "vgg", "use basic"),
        ({"parameter_budget": 10}, "parameter_budget", 10, "use at least 2965"),
        ({"model_bytes_budget": 10}, "model_bytes_budget", 10, "use at least 1432 (basic-L8-D3)"),
        ({"bit_operations_budget": 10}, "bit_operations_budget", 10, "use at least 220416 (basic-L8-D3)"),
        ({"recipe": "long"}, "recipe", "long", "use one of short, paper"),
        ({"recipe": {"name": 5}}, "recipe.name", 5, "short"),
        ({"recipe": {"name": "long"}}, "recipe", "long", "use one of short, paper"),
        ({"recipe": {"epochs": 5}}, "recipe.epochs", 5, "float_part, retraining"),
        ({"recipe": {"float_part": 5}}, "recipe.float_part", 5, "give some of schedule"),
        (
            {"recipe": {"float_part": {"batch_size": True}}},
            "recipe.float_part.batch_size",
            True,
            "give a whole number",
        ),
        (
            {"recipe": {"float_part": {"batch_size": "64"}}},
            "recipe.float_part.batch_size",
            "64",
            "give a whole number",
        ),
        (
            {"recipe": {"retraining": {"quantizers": {"shortcut_bits": 1}}}},
            "recipe.retraining.quantizers.shortcut_bits",
            1,
            "give at least 2",
        ),
        (
            {"recipe": {"float_part": {"validation_share": 0}}},
            "recipe.float_part.validation_share",
            0,
            '"validation_share": 0.1',
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_field_and_remedy(
    fields: dict[str, Any], field: str, value: object, remedy: str
) -> None:
    refused = _refusal(**fields)
    assert refused.field == field
    assert refused.value == value
    assert remedy in refused.remedy


def test_a_recipe_that_holds_nothing_out_is_refused_by_name_and_its_remedy_works() -> None:
    refused = _refusal(task="cifar10", parameter_budget=100_000, recipe="paper")
    assert refused.field == "recipe.float_part.validation_share"
    assert '"name": "paper"' in refused.remedy
    fixed = {"name": "paper", "float_part": {"validation_share": 0.1}}
    planned = plan(_request(task="cifar10", parameter_budget=100_000, recipe=fixed))
    assert planned.recipe.float_part.validation_share == 0.1
    assert planned.recipe.float_part.schedule.epochs == 200


@pytest.mark.parametrize(
    ("task", "float_part", "setting", "remedy"),
    [
        ("cifar10", {"augmentation": "scale-crop"}, "augmentation", "use crop-flip"),
        ("imagenet", {"augmentation": "crop-flip"}, "augmentation", "use random-resized-crop"),
        ("imagenet", {"crop_padding": 4}, "crop_padding", "leave it out"),
        ("rings", {"crop_padding": 4}, "crop_padding", "leave it out"),
    ],
)
def test_augmentations_that_do_not_suit_a_tasks_inputs_are_refused(
    task: str, float_part: dict[str, Any], setting: str, remedy: str
) -> None:
    refused = _refusal(task=task, parameter_budget=1_000_000, recipe={"float_part": float_part})
    assert refused.field == f"recipe.float_part.{setting}"
    assert refused.value == float_part[setting]
    assert refused.remedy == remedy


def _image_folder(data_root: Path, *splits: str) -> None:
    for split in splits:
        for each in ("a", "b"):
            folder = data_root / "images/parts" / split / each
            folder.mkdir(parents=True)
            for index in range(20):
                (folder / f"{index}.png").write_bytes(b"never opened")


def test_a_search_is_planned_for_the_users_own_images_from_their_names_alone(tmp_path: Path) -> None:
    _image_folder(tmp_path, "")
    request = _request(task="images/parts@16")
    planned = plan(request, tmp_path)
    assert (planned.task.name, planned.task.classes, planned.task.train_examples) == ("images/parts@16", 2, 32)
    assert {each.block for each in planned.candidates} == {"basic", "preact", "depthwise"}
    assert planned.candidates[0].layers(planned.task)[0].shape == (3, 16, 16)
    with pytest.raises(InvalidInput, match="is not a task"):
        plan(request)


def test_a_validation_split_of_its_own_takes_the_place_of_a_held_out_share(tmp_path: Path) -> None:
    request = _request(task="images/parts", recipe={"float_part": {"validation_share": 0}})
    _image_folder(tmp_path, "train")
    with pytest.raises(InvalidInput, match="leaves nothing to rank by"):
        plan(request, tmp_path)
    _image_folder(tmp_path, "val")
    assert plan(request, tmp_path).task.validation_examples == 40


def test_a_recipe_is_found_by_its_name() -> None:
    assert plan(_request(recipe="paper")).recipe == PAPER
    assert plan(_request(recipe={"name": "paper"})).recipe == PAPER


def test_architectures_by_name_are_the_candidates() -> None:
    planned = plan(_request(architectures=["basic-L8-D4", "mobilenetv2-x0.05"], parameter_budget=100_000))
    assert planned.candidates == (Architecture("basic", 8, 4), Architecture("mobilenetv2", 53, 8, (5,)))
    assert _refusal(architectures=["basic-L8-D4"], blocks=["basic"]).field == "blocks"
    assert _refusal(architectures=["resnet20-x2"]).value == "resnet20-x2"


def test_overrides_change_only_what_they_name() -> None:
    changed = plan(_request(recipe={"retraining": {"schedule": {"epochs": 3}}})).recipe
    assert changed.name == "short*"
    assert changed.retraining.schedule.epochs == 3
    assert changed.float_part.hash() == FLOAT_HASH
    assert changed.retraining.hash() != SHORT.retraining.hash()
    schedule = SHORT.retraining.schedule
    assert changed.retraining.schedule == schedule.model_copy(update={"epochs": 3})


def test_overrides_change_the_recipe_they_name() -> None:
    changed = plan(_request(recipe={"name": "paper", "float_part": {"batch_size": 32}})).recipe
    assert (changed.name, changed.float_part.batch_size, changed.float_part.schedule.epochs) == ("paper*", 32, 200)


def test_overrides_that_change_nothing_leave_the_recipe_as_it_is() -> None:
    assert plan(_request(recipe={"float_part": {"batch_size": 64}})).recipe == SHORT
    assert plan(_request(recipe={})).recipe == SHORT


@pytest.mark.parametrize("text", ["[1]", "5", '"short"', "null", "[1", "{", " [", "[" * 100_000])
def test_a_recipes_text_that_is_neither_name_nor_object_is_refused_with_both_forms(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        recipe_from_text(text)
    assert (refused.value.field, refused.value.value) == ("recipe", text[:200])
    assert "a name, e.g. short, or a JSON object" in refused.value.remedy


def test_a_recipes_text_is_a_name_or_an_object() -> None:
    assert recipe_from_text("short") == "short"
    assert recipe_from_text(' {"name": "paper"}') == {"name": "paper"}


def test_a_number_too_large_to_be_finite_is_refused_under_its_settings_name() -> None:
    overrides = recipe_from_text('{"float_part": {"schedule": {"learning_rate": 1e400}}}')
    assert not isinstance(overrides, str)
    refused = _refusal(recipe=overrides)
    assert refused.field == "recipe.float_part.schedule.learning_rate"
    assert refused.remedy == "give a finite number"


def test_more_candidates_than_can_be_searched_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"task": "rings", "parameter_budget": 10**8, "depths": list(range(3, 35)), "widths": list(range(3, 103))}
    monkeypatch.setattr("searcher.plan.MOST_CANDIDATES", 3200)
    refused = _refusal(**fields)
    assert (refused.field, refused.value) == ("widths", 6400)
    assert "3200" in refused.remedy
    assert len(plan(_request(**fields, blocks=["plain"])).candidates) == 3200


def test_no_other_spelling_hides_that_bit_widths_are_there_twice() -> None:
    assert _refusal(bit_widths=["W2A2", "W02A2"]).field == "bit_widths"


def test_bit_widths_come_in_their_order() -> None:
    assert parse_bit_widths(["WFA8", "W3AF"]) == (BitWidths(None, 8), BitWidths(3, None))


def test_a_network_to_start_from_has_to_be_the_candidates(tmp_path: Path) -> None:
    saved = Network(Architecture.parse("basic-L8-D3").layers(DIGITS)).state_dict()
    save_file(saved, tmp_path / "mine.safetensors")
    recipe = {"float_part": {"checkpoint": {"path": "mine.safetensors"}}}
    assert plan(_request(architectures=["basic-L8-D3"], recipe=recipe), tmp_path).recipe.float_part.checkpoint
    with pytest.raises(InvalidInput, match=r"is no network basic-L8-D4 of digits: of .*weight") as refused:
        plan(_request(architectures=["basic-L8-D4"], recipe=recipe), tmp_path)
    assert (refused.value.field, refused.value.value) == ("recipe.float_part.checkpoint.path", "mine.safetensors")


def test_precision_and_path_are_resolved_and_part_of_the_recipes_identity() -> None:
    part = plan(_request()).recipe.float_part
    assert "auto" not in (part.precision, part.path)
    fixed = plan(_request(recipe={"float_part": {"precision": "bf16", "path": "plain"}})).recipe.float_part
    assert (fixed.precision, fixed.path) == ("bf16", "plain")
    assert fixed.hash() != part.hash()
    same = plan(_request(recipe={"float_part": {"precision": part.precision, "path": part.path}})).recipe.float_part
    assert same.hash() == part.hash()
