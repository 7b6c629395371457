"""Optuna's samplers, TPE and GP, over block, relative depth and width; their study is made anew at each ask.

Optuna keeps no storage of its own here: the database is the only truth, and running candidates are told too.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.samplers import BaseSampler

    from qcore import Architecture
    from searcher.samplers import Trial

RANDOM_TRIALS = 5
"""Finished candidates before a model takes over."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def choose(name: str, remaining: Sequence[Architecture], trials: Sequence[Trial], seed: int) -> Architecture:
    """Asks a sampler, ``tpe`` or ``gp``, for a point and takes the nearest remaining candidate, so that none is
    infeasible or proposed twice, and asking once is enough.

    A point is a block kind with depth and width as positions (0 to 1) among that block's candidates. Where trials have
    costs the study has two objectives.
    """
    places = _places([*remaining, *(trial.architecture for trial in trials)])
    blocks = sorted({architecture.block for architecture in places})
    space: dict[str, BaseDistribution] = {
        "block": CategoricalDistribution(blocks),
        "depth": FloatDistribution(0, 1),
        "width": FloatDistribution(0, 1),
    }
    has_costs = any(trial.cost is not None for trial in trials)
    study = optuna.create_study(
        directions=["maximize", "minimize"] if has_costs else ["maximize"], sampler=_sampler(name, seed + len(trials))
    )
    for trial in trials:
        depth, width = places[trial.architecture]
        values = None
        if not trial.open and trial.accuracy is not None:
            values = [trial.accuracy, trial.cost or 0.0] if has_costs else [trial.accuracy]
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if trial.open else TrialState.FAIL if values is None else TrialState.COMPLETE,
                values=values,
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


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "tpe":
        return optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.GPSampler(n_startup_trials=RANDOM_TRIALS, deterministic_objective=False, seed=seed)


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
