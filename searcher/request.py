"""What a user asks for: a search request, and the plan it stands for after every name in it is resolved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from qcore import Architecture, BitWidths, InvalidInput, Recipe, Task, get_task, override
from qcore.numerics import resolve_numerics
from qcore.starting_network import check_starting_network, resolve_checkpoint
from searcher.space import enumerate_candidates

if TYPE_CHECKING:
    from pathlib import Path

    from qcore.recipe import Checkpoint

DEFAULT_BIT_WIDTHS = ("W2A2", "W2AF", "WFA2")
MOST_PARAMETERS = 100_000_000
MOST_CANDIDATES = 10_000
MOST_STAGES = 100_000
_RECIPE_FORMS = 'give a name, e.g. short, or a JSON object, e.g. {"float_part": {"schedule": {"epochs": 30}}}'

Name = Annotated[str, Field(max_length=64)]


class SearchRequest(BaseModel):
    """Which architecture, within a parameter budget, is best at the first of these bit widths?"""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={"examples": [{"task": "digits", "parameter_budget": 20_000}]},
    )

    task: Name = Field(
        description="Name of a task, as GET /tasks lists them; images/<folder>@<size> for the user's own images."
    )
    parameter_budget: int = Field(
        ge=1, le=MOST_PARAMETERS, description="Most trainable parameters of the float network a candidate may have."
    )
    bit_widths: list[Name] = Field(
        default=list(DEFAULT_BIT_WIDTHS),
        min_length=1,
        max_length=16,
        description="Bit widths each candidate is retrained at; the first ranks.",
    )
    blocks: list[Name] | None = Field(
        default=None, min_length=1, max_length=16, description="Block kinds; the task's default ones if not given."
    )
    depths: list[int] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Depths L; each block takes those it has. Its default depths if not given.",
    )
    widths: list[int] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Initial widths D; those over budget are left out. The widest that fits if not given.",
    )
    architectures: list[Name] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Names or aliases of the candidates themselves, in place of blocks, depths and widths.",
    )
    engine: Literal["optuna", "ray"] = Field(
        default="optuna",
        description="Where evaluations run: optuna has quantrank's own workers claim them, ray has Ray Tune place them "
        "on a cluster, by a driver that `quantrank ray` starts. Candidates, results and leaderboard are the same.",
    )
    max_evaluations: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PARAMETERS,
        description="Most newly trained evaluations (candidate x seed); stored results are free. No limit if absent.",
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default=[0], min_length=1, max_length=32, description="Each candidate is trained once per seed."
    )
    recipe: Name | dict[str, JsonValue] | None = Field(
        default=None,
        description="A recipe's name, or an object of overrides (with `name` for the recipe they change).",
    )


@dataclass(frozen=True)
class SearchPlan:
    """A search request with its names resolved: nothing in it is open or infeasible."""

    task: Task
    recipe: Recipe
    bit_widths: tuple[BitWidths, ...]
    """The first ranks."""
    candidates: tuple[Architecture, ...]
    parameter_budget: int
    engine: str
    max_evaluations: int | None
    seeds: tuple[int, ...]


def plan(request: SearchRequest, data_root: Path | None = None, device: str = "cpu") -> SearchPlan:
    """Resolves a request and enumerates its feasible candidates; trains and stores nothing.

    Without a data root, image folders are no tasks. ``device`` is what workers train on.

    Raises:
        InvalidInput: naming the field, the value and the remedy.
    """
    task = get_task(request.task, data_root)
    recipe = resolve_recipe(task, request.recipe, data_root, device)
    _require_validation(task, recipe)
    candidates = enumerate_candidates(
        task, request.parameter_budget, request.blocks, request.depths, request.widths, request.architectures
    )
    if len(candidates) > MOST_CANDIDATES:
        raise InvalidInput(
            "widths", len(candidates), "candidates are too many", f"ask for at most {MOST_CANDIDATES} of them"
        )
    if recipe.float_part.checkpoint is not None:
        _require_one_network(task, candidates, recipe.float_part.checkpoint, data_root)
    stages = len(candidates) * len(request.seeds) * (1 + len(request.bit_widths))
    if stages > MOST_STAGES:
        raise InvalidInput(
            "seeds", len(request.seeds), f"make {stages} stages", f"ask for at most {MOST_STAGES} in one search"
        )
    return SearchPlan(
        task=task,
        recipe=recipe,
        bit_widths=parse_bit_widths(request.bit_widths),
        candidates=candidates,
        parameter_budget=request.parameter_budget,
        engine=request.engine,
        max_evaluations=request.max_evaluations,
        seeds=_unique("seeds", request.seeds),
    )


def _require_one_network(
    task: Task, candidates: tuple[Architecture, ...], checkpoint: Checkpoint, data_root: Path | None
) -> None:
    """Refuses a float network to start from that is not the one candidate's."""
    if len(candidates) > 1:
        raise InvalidInput(
            "recipe.float_part.checkpoint",
            checkpoint.path,
            f"is one network, but {len(candidates)} candidates would start from it",
            'name its architecture, e.g. "architectures": ["mobilenetv2-x1.0"]',
        )
    if data_root is not None:
        check_starting_network(candidates[0], task, checkpoint, data_root)


def _require_validation(task: Task, recipe: Recipe) -> None:
    """Refuses what would leave nothing to rank by but the test set."""
    if task.validation_examples:
        return
    share = recipe.float_part.validation_share
    if share == 0:
        raise InvalidInput(
            "recipe.float_part.validation_share",
            0,
            "leaves nothing to rank by but the test set",
            f'hold out a share, e.g. "recipe": {{"name": "{recipe.name}", "float_part": {{"validation_share": 0.1}}}}',
        )
    if share * task.train_examples < task.classes:
        raise InvalidInput(
            "recipe.float_part.validation_share",
            share,
            f"holds out fewer than {task.classes} of {task.train_examples} training examples",
            "hold out more, e.g. 0.1",
        )


def parse_bit_widths(names: list[str] | tuple[str, ...]) -> tuple[BitWidths, ...]:
    """Bit widths by name, none of them twice; ``float`` is always trained and not among them."""
    for name in names:
        if name == "float":
            raise InvalidInput("bit_widths", name, "is always trained", "leave it out")
    return tuple(BitWidths.parse(name) for name in _unique("bit_widths", names))


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


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _unique(field: str, values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise InvalidInput(field, value, "is there twice", "name each once")
    return tuple(values)
