"""The plan that a search request stands for, after every name in it is resolved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from qcore import Architecture, BitWidths, InvalidInput, Recipe, Task, get_task
from qcore.families.family import MOST_DEPTH
from qcore.recipe_scaling import scaled_recipe
from qcore.starting_network import check_starting_network
from searcher.budgets import Budgets
from searcher.named import parse_bit_widths, resolve_recipe, unique
from searcher.space import enumerate_candidates

if TYPE_CHECKING:
    from pathlib import Path

    from qcore.recipe import Checkpoint
    from searcher.request import SearchRequest
    from searcher.samplers import Sampler

_DEPTH = re.compile(r"-L(\d{1,4})")
MOST_CANDIDATES = 10_000
MOST_STAGES = 100_000
MOST_LAYERS = 4_000_000
"""Layers x candidates x rungs, as asked for: known before anything is sized, and what that and storing keys take."""


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
    _check_work(task, request)
    candidates = enumerate_candidates(
        task, budgets, request.blocks, request.depths, request.widths, request.architectures
    )
    if len(candidates) > MOST_CANDIDATES:
        raise InvalidInput(
            "widths", len(candidates), "candidates are too many", f"ask for at most {MOST_CANDIDATES} of them"
        )
    if recipe.float_part.checkpoint is not None:
        _require_one_network(task, candidates, recipe.float_part.checkpoint, data_root)
    stages = len(candidates) * (2 * len(request.rungs) + len(request.seeds) * (1 + len(request.bit_widths)))
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
        seeds=unique("seeds", request.seeds),
        max_seeds=_max_seeds(request),
        top=request.top,
        indifference_margin=request.indifference_margin,
        max_evaluations=request.max_evaluations,
        time_limit_s=request.time_limit_s,
        target_accuracy=request.target_accuracy,
        priority=request.priority,
    )


def _check_work(task: Task, request: SearchRequest) -> None:
    """Refuses what would take long to size and to store, from the request's numbers alone."""
    rungs = len(request.rungs) + 1
    if request.architectures is not None:
        field, value = "architectures", len(request.architectures)
        depths = [int(found[1]) for name in request.architectures if (found := _DEPTH.search(name))]
        times = rungs
    else:
        field, value = "depths", len(request.depths or ())
        depths = list(request.depths or ())
        times = rungs * len(request.blocks or task.default_blocks) * len(request.widths or (1,))
    layers = times * sum(min(max(each, 0), MOST_DEPTH) for each in depths)
    if layers > MOST_LAYERS:
        raise InvalidInput(
            field,
            value,
            f"of them make {layers:,} layers (depths x blocks x widths x rungs)",
            f"ask for at most {MOST_LAYERS:,} in one search: fewer or smaller depths, fewer widths, blocks or rungs",
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
