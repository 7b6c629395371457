"""Engines: what proposes the next candidate of a search. One adapter file each, loaded when a search uses it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Architecture


@dataclass(frozen=True)
class Trial:
    """A candidate that was proposed, and what is known of it."""

    architecture: Architecture
    accuracy: float | None
    """Mean validation accuracy in percent at the ranking bit widths; None while unknown, or where it failed."""
    open: bool
    """Still waiting or running."""


class Engine(Protocol):
    """Chooses among what is left. Holds no state: everything it knows is told at each call."""

    def choose(self, remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
        """One of the ``remaining`` candidates (at least one), deterministically for the arguments."""
        ...


_MODULES = {"optuna": "searcher.engines.optuna", "ray": "searcher.engines.optuna"}
"""Ray places evaluations; what comes next is asked of Optuna for either."""


def load_engine(name: str) -> Engine:
    """The engine of that name; imports its library."""
    return cast("Engine", importlib.import_module(_MODULES[name]))
