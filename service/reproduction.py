"""The command that trains again what a leaderboard's row is made of."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qcore import Recipe, Task


def reproducing_command(
    architecture: str,
    task: Task,
    recipe: str,
    bit_widths: Sequence[str],
    seeds: Sequence[int],
    provenance: Mapping[str, Any],
) -> str:
    """For a shell. On the device and with the threads that ``provenance`` names, it gives the same, bit for bit.

    ``recipe`` is as ``recipe_text`` gives it.
    """
    words = ["quantrank", "evaluate", architecture, "--task", task.name, "--bit-widths", ",".join(bit_widths)]
    words += ["--recipe", recipe]
    if provenance.get("threads", 1) != 1:
        words += ["--threads", str(provenance["threads"])]
    if not str(provenance.get("device", "cpu")).startswith("cpu"):
        words += ["--device", "cuda"]
    if len(seeds) == 1:
        return shlex.join([*words, "--seed", str(seeds[0])])
    return f"for seed in {' '.join(map(str, seeds))}; do {shlex.join(words)} --seed $seed; done"


def recipe_text(task: Task, recipe: Recipe) -> str:
    """What ``--recipe`` and the leaderboard's ``recipe`` take for it: overrides of a recipe of the task."""
    return json.dumps({"name": task.recipe_base(recipe).name, **_nested(task.recipe_changes(recipe))})


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their dotted names as ``--recipe`` takes them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, last = name.split(".")
        inner = found
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return found
