"""Learning rates of a schedule, as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcore.recipe import Schedule


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimizer step ``step``, counted from 0.

    >>> from qcore.recipe import PAPER_CIFAR10
    >>> [round(learning_rate(PAPER_CIFAR10.float_part.schedule, epoch * 390, 390), 6) for epoch in (0, 99, 100, 150)]
    [0.1, 0.1, 0.01, 0.001]
    """
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return schedule.learning_rate * (step + 1) / warmup
    if schedule.decay == "steps":
        passed = sum(step >= milestone * steps_per_epoch for milestone in schedule.milestones)
        return schedule.learning_rate * 0.1**passed
    progress = (step - warmup) / (schedule.epochs * steps_per_epoch - warmup)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
