"""Samplers: which candidate a search looks at next. Loaded when a search uses one.

``grid`` takes the candidates in their order and ``random`` any; ``tpe`` and ``gp`` are Optuna's and learn from results.
"""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Architecture

Sampler = Literal["grid", "random", "tpe", "gp"]


@dataclass(frozen=True)
class Trial:
    """A candidate that was proposed, and what is known of it."""

    architecture: Architecture
    accuracy: float | None
    """Mean validation accuracy in percent at the ranking bit widths; None while unknown, or where it failed."""
    open: bool
    """Still waiting or running."""
    cost: float | None = None
    """What is to be small beside an accuracy that is to be great, where a search asks for both."""


class Choose(Protocol):
    """Chooses among what is left. Holds no state: everything it knows is told at each call."""

    def __call__(self, remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int, /) -> Architecture:
        """One of the ``remaining`` candidates (at least one), deterministically for the arguments."""
        ...


def load_sampler(name: str) -> Choose:
    """The sampler of that name; imports its library."""
    if name == "grid":
        return first
    if name == "random":
        return _any
    return cast("Choose", partial(importlib.import_module("searcher.samplers.optuna").choose, name))


def first(remaining: Sequence[Architecture], _trials: Sequence[Trial], _seed: int) -> Architecture:
    """The grid: candidates in the order they were enumerated."""
    return remaining[0]


def _any(remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
    return random.Random(f"{seed} {len(trials)}").choice(remaining)  # noqa: S311  no secret
