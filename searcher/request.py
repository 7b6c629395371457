"""What a user asks for: a search request, and the plan it stands for after every name in it is resolved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from qcore import Architecture, BitWidths, InvalidInput, Recipe, Task, get_task, override
from qcore.numerics import resolve_numerics
from qcore.recipe_scaling import scaled_recipe
from qcore.starting_network import check_starting_network, resolve_checkpoint
from searcher.budgets import MOST_BIT_OPERATIONS, MOST_MODEL_BYTES, MOST_PARAMETERS, Budgets
from searcher.samplers import Sampler
from searcher.space import enumerate_candidates

if TYPE_CHECKING:
    from pathlib import Path

    from qcore.recipe import Checkpoint

DEFAULT_BIT_WIDTHS = ("W2A2", "W2AF", "WFA2")
MOST_CANDIDATES = 10_000
MOST_STAGES = 100_000
MOST_SECONDS = 366 * 24 * 3600.0
_RECIPE_FORMS = 'give a name, e.g. short, or a JSON object, e.g. {"float_part": {"schedule": {"epochs": 30}}}'

Name = Annotated[str, Field(max_length=64)]


class Limits(BaseModel):
    """What ends a search before every candidate has had its turn; null for no limit."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    max_evaluations: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PARAMETERS,
        description="Most newly trained evaluations (candidate x rung x seed); stored results are free.",
    )
    time_limit_s: float | None = Field(
        default=None,
        gt=0,
        le=MOST_SECONDS,
        description="Seconds after which the search ends with what it has; the best are promoted early, then.",
    )
    target_accuracy: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Percent: the search ends with the first candidate whose validation accuracy reaches it.",
    )


class SearchRequest(Limits):
    """Which architecture, within these budgets, is best at the first of these bit widths? Gives at least one budget."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"task": "digits", "parameter_budget": 20_000},
                {"task": "fashion-mnist-14", "model_bytes_budget": 16_384, "bit_operations_budget": 7_000_000},
            ]
        },
    )

    task: Name = Field(
        description="Name of a task, as GET /tasks lists them; images/<folder>@<size> for the user's own images."
    )
    parameter_budget: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PARAMETERS,
        description="Most trainable parameters of the float network a candidate may have. At least one of this, "
        "model_bytes_budget and bit_operations_budget has to be given; candidates are within all that are.",
    )
    model_bytes_budget: int | None = Field(
        default=None,
        ge=1,
        le=MOST_MODEL_BYTES,
        description="Most bytes a candidate may have, deployed at the first bit widths: weights packed at their bits, "
        "all else in float32.",
    )
    bit_operations_budget: int | None = Field(
        default=None,
        ge=1,
        le=MOST_BIT_OPERATIONS,
        description="Most bit operations for one input at the first bit widths: MACs x weight bits x input bits, "
        "summed over layers; float counts 32 bits.",
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
        description="Initial widths D; those over a budget are left out. The widest that fits if not given.",
    )
    architectures: list[Name] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Names or aliases of the candidates themselves, in place of blocks, depths and widths.",
    )
    engine: Literal["optuna"] = Field(default="optuna", description="What runs evaluations.")
    sampler: Sampler = Field(
        default="tpe",
        description="Which candidate comes next: grid takes them in their order, tpe and gp learn from results.",
    )
    minimize: Literal["parameters", "bit_operations"] | None = Field(
        default=None, description="A cost that the sampler tpe is to keep small beside a great accuracy."
    )
    rungs: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=[],
        max_length=4,
        description="Successive halving: every candidate is trained with the recipe's epochs times the first of these "
        "fractions, the best share goes on to the next, and at last to the full recipe, which alone is ranked.",
        examples=[[0.15]],
    )
    promoted_share: float = Field(default=0.25, gt=0, lt=1, description="Share of a rung that goes on to the next.")
    max_seeds: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description="Repeat the best candidates with up to so many seeds until their ranks are told apart. "
        "No more than `seeds` if absent.",
    )
    top: int = Field(default=1, ge=1, le=100, description="How many of the best are to be told apart by further seeds.")
    indifference_margin: float = Field(
        default=0.5, ge=0, le=100, description="Difference in percentage points that needs no further seeds."
    )
    priority: int = Field(
        default=0, ge=-100, le=100, description="Searches of a higher priority are served first; equal ones share."
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
    budgets: Budgets
    engine: str
    sampler: Sampler
    minimize: str | None
    rungs: tuple[Recipe, ...]
    """Recipes cut short, the shortest first."""
    promoted_share: float
    seeds: tuple[int, ...]
    max_seeds: int
    top: int
    indifference_margin: float
    max_evaluations: int | None
    time_limit_s: float | None
    target_accuracy: float | None
    priority: int


def plan(request: SearchRequest, data_root: Path | None = None, device: str = "cpu") -> SearchPlan:
    """Resolves a request and enumerates its feasible candidates; trains and stores nothing.

    Without a data root, image folders are no tasks. ``device`` is what workers train on.

    Raises:
        InvalidInput: naming the field, the value and the remedy.
    """
    task = get_task(request.task, data_root)
    recipe = resolve_recipe(task, request.recipe, data_root, device)
    _require_validation(task, recipe)
    if request.minimize is not None and request.sampler != "tpe":
        raise InvalidInput("minimize", request.minimize, f"is not for sampler {request.sampler}", "use sampler tpe")
    bit_widths = parse_bit_widths(request.bit_widths)
    budgets = Budgets(
        request.parameter_budget,
        request.model_bytes_budget,
        request.bit_operations_budget,
        bit_widths[0],
        recipe.retraining.quantizers,
    )
    candidates = enumerate_candidates(
        task, budgets, request.blocks, request.depths, request.widths, request.architectures
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
        bit_widths=bit_widths,
        candidates=candidates,
        budgets=budgets,
        engine=request.engine,
        sampler=request.sampler,
        minimize=request.minimize,
        rungs=_rungs(recipe, request.rungs),
        promoted_share=request.promoted_share,
        seeds=_unique("seeds", request.seeds),
        max_seeds=_max_seeds(request),
        top=request.top,
        indifference_margin=request.indifference_margin,
        max_evaluations=request.max_evaluations,
        time_limit_s=request.time_limit_s,
        target_accuracy=request.target_accuracy,
        priority=request.priority,
    )


def _rungs(recipe: Recipe, fractions: list[float]) -> tuple[Recipe, ...]:
    """The recipe cut short to rising fractions, each of which trains less than the next."""
    if fractions != sorted(set(fractions)):
        raise InvalidInput("rungs", fractions, "do not rise", f"use {sorted(set(fractions))}")
    found = tuple(scaled_recipe(recipe, fraction) for fraction in fractions)
    for fraction, (one, other) in zip(fractions, pairwise((*found, recipe)), strict=True):
        if one.float_part.hash() == other.float_part.hash():
            raise InvalidInput("rungs", fraction, "trains as long as what follows", "leave it out, or make it shorter")
    return found


def _max_seeds(request: SearchRequest) -> int:
    if request.max_seeds is not None and request.max_seeds < len(request.seeds):
        remedy = f"use at least {len(request.seeds)}, or leave it out"
        raise InvalidInput("max_seeds", request.max_seeds, "is fewer than seeds", remedy)
    return request.max_seeds or len(request.seeds)


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
