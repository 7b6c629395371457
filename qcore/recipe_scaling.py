"""A recipe cut short: what many candidates are compared by before the best of them are trained in full."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput

if TYPE_CHECKING:
    from qcore.recipe import Recipe, Schedule

_DIGITS = 9
"""Of epochs and shares, behind the point."""


def scaled_recipe(recipe: Recipe, fraction: float) -> Recipe:
    """The recipe with both stages' epochs times ``fraction`` (0 to 1), and without a cyclic phase.

    Both are cut short, because what a network reaches in float says little of what it reaches in two bits. Epochs stay
    whole: four times 0.15 is one epoch of 0.6 of the training split. Warm-up and milestones keep their place.

    Raises:
        InvalidInput: for a checkpoint that is taken as it is, whose float stage cannot be shorter; for a fraction that
            leaves nothing of an epoch.

    >>> from qcore.recipe import PAPER_CIFAR10
    >>> short = scaled_recipe(PAPER_CIFAR10, 0.006)  # of 200 epochs
    >>> short.name, short.float_part.schedule.epochs, short.float_part.schedule.epoch_share
    ('paper x0.006', 2, 0.6)
    """
    assert 0 < fraction < 1
    if recipe.float_part.epochs == 0:
        problem = "is taken as it is: there is no shorter training to compare by"
        raise InvalidInput("recipe.float_part.checkpoint", recipe.float_part.checkpoint, problem, "leave rungs out")
    schedules = [_scaled(part.schedule, fraction) for part in (recipe.float_part, recipe.retraining)]
    return recipe.model_copy(
        update={
            "name": f"{recipe.name[:48]} x{fraction:g}",
            "float_part": recipe.float_part.model_copy(update={"schedule": schedules[0]}),
            "retraining": recipe.retraining.model_copy(update={"schedule": schedules[1], "cyclic": None}),
        }
    )


def _scaled(schedule: Schedule, fraction: float) -> Schedule:
    whole = schedule.epochs * schedule.epoch_share
    wanted = round(whole * fraction, _DIGITS)
    if wanted == 0:
        problem = f"leaves nothing of {whole:g} passes over the training split"
        raise InvalidInput("rungs", fraction, problem, "use a larger fraction, e.g. 0.15, or leave it out")
    epochs = math.ceil(wanted)
    last = epochs - 1
    milestones = {round(milestone * epochs / schedule.epochs) for milestone in schedule.milestones}
    return schedule.model_copy(
        update={
            "epochs": epochs,
            "epoch_share": min(1.0, round(wanted / epochs, _DIGITS)),
            "warmup_epochs": min(round(schedule.warmup_epochs * epochs / schedule.epochs), last),
            "milestones": tuple(sorted(milestone for milestone in milestones if 1 <= milestone <= last)),
        }
    )
