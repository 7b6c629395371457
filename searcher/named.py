"""What users name, in requests and on command lines: recipes and bit widths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qcore import BitWidths, InvalidInput, Recipe, Task, override
from qcore.numerics import resolve_numerics
from qcore.starting_network import resolve_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_BIT_WIDTHS = ("W2A2", "W2AF", "WFA2")
_RECIPE_FORMS = 'give a name, e.g. short, or a JSON object, e.g. {"float_part": {"schedule": {"epochs": 30}}}'


def parse_bit_widths(names: list[str] | tuple[str, ...]) -> tuple[BitWidths, ...]:
    """Bit widths by name, none of them twice; ``float`` is always trained and not among them."""
    for name in names:
        if name == "float":
            raise InvalidInput("bit_widths", name, "is always trained", "leave it out")
    return tuple(BitWidths.parse(name) for name in unique("bit_widths", names))


def resolve_recipe(
    task: Task, given: str | dict[str, Any] | None, data_root: Path | None = None, device: str = "cpu"
) -> Recipe:
    """A task's recipe by name, its default if there is none, or one changed by overrides.

    Its precision and path are resolved for the device, where it leaves them open. A checkpoint it starts from is looked
    up below the data root.

    Raises:
        InvalidInput: for an unknown name or setting, a value it cannot have, or one that the task's inputs do not suit;
            for a checkpoint that is not there, and a path that the device does not have.
    """
    recipe = resolve_numerics(_chosen_recipe(task, given), task, device)
    return recipe if data_root is None else resolve_checkpoint(recipe, data_root)


def _chosen_recipe(task: Task, given: str | dict[str, Any] | None) -> Recipe:
    if given is None:
        return task.recipes[0]
    if isinstance(given, str):
        return task.recipe(given)
    name = given.get("name", task.recipes[0].name)
    if not isinstance(name, str):
        raise InvalidInput("recipe.name", name, "is not a name", f"use e.g. {task.recipes[0].name}")
    recipe = override(task.recipe(name), {key: value for key, value in given.items() if key != "name"})
    if recipe.float_part.augmentation not in task.augmentations:
        raise InvalidInput(
            "recipe.float_part.augmentation",
            recipe.float_part.augmentation,
            f"does not suit task {task.name}",
            f"use {' or '.join(task.augmentations)}",
        )
    if recipe.float_part.crop_padding and recipe.float_part.augmentation != "crop-flip":
        raise InvalidInput(
            "recipe.float_part.crop_padding",
            recipe.float_part.crop_padding,
            f"is not for augmentation {recipe.float_part.augmentation}, which cuts out by itself",
            "leave it out",
        )
    _, height, width = task.input_shape
    for setting in ("crop_padding", "flip"):
        value = getattr(recipe.float_part, setting)
        if value and height * width == 1:
            raise InvalidInput(
                f"recipe.float_part.{setting}", value, f"is for images, which {task.name} has none of", "leave it out"
            )
    return recipe


def recipe_from_text(text: str) -> str | dict[str, Any]:
    """A recipe as written on a command line or in a query: a name, or overrides as a JSON object.

    Raises:
        InvalidInput: for what begins like JSON and is none, and for JSON that is no object.
    """
    try:
        overrides = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] not in ("{", "["):
            return text
        raise InvalidInput("recipe", text[:200], f"is not JSON ({error})", _RECIPE_FORMS) from None
    if not isinstance(overrides, dict):
        raise InvalidInput("recipe", text[:200], "is neither a name nor a JSON object", _RECIPE_FORMS)
    return overrides


def unique(field: str, values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise InvalidInput(field, value, "is there twice", "name each once")
    return tuple(values)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")
