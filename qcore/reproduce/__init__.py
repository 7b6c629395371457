"""The paper's figures and tables as experiments: run at a scale, with what was measured beside what was published."""

from __future__ import annotations

from qcore.errors import InvalidInput
from qcore.reproduce import cifar, depth_sweep, drawings, imagenet, rings, segmentation, training_methods
from qcore.reproduce.experiment import POLICIES, SCALES, Experiment, Options, Plan, Report, Results, Scale

_FOUND = {
    experiment.name: experiment
    for experiment in (
        *rings.EXPERIMENTS,
        *drawings.EXPERIMENTS,
        *cifar.EXPERIMENTS,
        *depth_sweep.EXPERIMENTS,
        *imagenet.EXPERIMENTS,
        *segmentation.EXPERIMENTS,
        *training_methods.EXPERIMENTS,
    )
}
_NAMES = (*(f"figure-{n}" for n in range(1, 13)), *(f"table-{n}" for n in range(1, 6)), "lsq-comparison")
EXPERIMENTS: dict[str, Experiment] = {name: _FOUND[name] for name in _NAMES}
"""In the paper's order, then what is not in it."""


def get_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InvalidInput: for an unknown name.
    """
    try:
        return EXPERIMENTS[name]
    except KeyError:
        raise InvalidInput("experiment", name, "is not there", f"use one of {', '.join(EXPERIMENTS)}") from None


__all__ = [
    "EXPERIMENTS",
    "POLICIES",
    "SCALES",
    "Experiment",
    "Options",
    "Plan",
    "Report",
    "Results",
    "Scale",
    "get_experiment",
]
