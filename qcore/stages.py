"""Stages: single training runs, and the keys that say when two of them are the same run.

float = hash(task and data version, architecture, float recipe, seed, numerics version)
quantized = hash(float key, retraining recipe, bit widths)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from qcore.bit_widths import FLOAT, BitWidths

if TYPE_CHECKING:
    from qcore.architecture import Architecture
    from qcore.recipe import Recipe
    from qcore.tasks import Task

NUMERICS_VERSION = 4
"""Raised by every change of code that changes results, so that old results are not taken for new ones."""


@dataclass(frozen=True)
class Stage:
    """One training run: the float one, or a retraining at some bit widths that starts from it."""

    task: Task
    architecture: Architecture
    recipe: Recipe
    seed: int
    bit_widths: BitWidths = FLOAT

    @property
    def key(self) -> str:
        """SHA-256 in hexadecimal; stages with equal keys are trained once."""
        float_key = _float_key(
            NUMERICS_VERSION,
            self.task.name,
            self.task.version,
            self.architecture.name,
            self.recipe.float_part.hash(),
            self.seed,
        )
        if self.bit_widths.is_float:
            return float_key
        return _digest(float_key, self.recipe.retraining.hash(), str(self.bit_widths))

    @property
    def epochs(self) -> int:
        """Of this run alone: none for a float network that is taken as it is."""
        return self.recipe.float_part.epochs if self.bit_widths.is_float else self.recipe.retraining.epochs

    @property
    def label(self) -> str:
        """What logs and progress lines call it."""
        return f"{self.architecture.name} {self.bit_widths} on {self.task.name}, seed {self.seed}"


def stages_of(
    task: Task, architecture: Architecture, recipe: Recipe, seed: int, bit_widths: tuple[BitWidths, ...]
) -> tuple[Stage, ...]:
    """The float stage, then one retraining for each bit widths, in their order."""
    return tuple(Stage(task, architecture, recipe, seed, bits) for bits in (FLOAT, *bit_widths))


@lru_cache(maxsize=64)  # retrainings of one network follow each other
def _float_key(*parts: object) -> str:
    return _digest(*parts)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
