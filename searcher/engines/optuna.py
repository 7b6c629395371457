"""The Optuna engine: TPE over block, relative depth and width, its study rebuilt from the tables at each ask.

Optuna keeps no storage of its own here: the database is the only truth, and running candidates are told too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore import Architecture
    from searcher.engines import Trial

RANDOM_TRIALS = 5
"""Finished candidates before TPE's model takes over."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def choose(remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
    """Asks TPE for a point and takes the nearest remaining candidate, so none is infeasible or proposed twice.

    A point is a block kind with depth and width as positions (0 to 1) among that block's candidates.
    """
    places = _places([*remaining, *(trial.architecture for trial in trials)])
    blocks = sorted({architecture.block for architecture in places})
    space: dict[str, BaseDistribution] = {
        "block": CategoricalDistribution(blocks),
        "depth": FloatDistribution(0, 1),
        "width": FloatDistribution(0, 1),
    }
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed + len(trials))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        depth, width = places[trial.architecture]
        state = TrialState.COMPLETE if trial.accuracy is not None else TrialState.FAIL
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if trial.open else state,
                value=None if trial.open else trial.accuracy,
                params={"block": trial.architecture.block, "depth": depth, "width": width},
                distributions=space,
            )
        )
    point = study.ask(space).params

    def distance(architecture: Architecture) -> tuple[bool, float, str]:
        depth, width = places[architecture]
        apart = (depth - point["depth"]) ** 2 + (width - point["width"]) ** 2
        return architecture.block != point["block"], apart, architecture.name

    return min(remaining, key=distance)


def _places(candidates: Sequence[Architecture]) -> dict[Architecture, tuple[float, float]]:
    """Where each candidate's depth stands among its block's depths, and its width among those of its depth.

    Equal widths are told apart by what else the names say, e.g. a width multiplier.
    """
    widths: dict[str, dict[int, list[Architecture]]] = {}
    for each in sorted(candidates, key=lambda each: (each.depth, each.width, each.detail)):
        widths.setdefault(each.block, {}).setdefault(each.depth, []).append(each)
    depths = {block: list(by_depth) for block, by_depth in widths.items()}
    return {
        each: (_position(depths[each.block], each.depth), _position(widths[each.block][each.depth], each))
        for each in candidates
    }


def _position(values: Sequence[object], value: object) -> float:
    return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5
