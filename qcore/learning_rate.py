"""Learning rates of a schedule, as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcore.recipe import CyclicSchedule, Schedule

CYCLE = (1.0, 0.1**0.5, 0.1, 0.1**1.5, 0.01, 0.1**1.5, 0.1, 0.1**0.5)
"""Factors of one cycle (paper, Appendix B)."""


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimizer step ``step``, counted from 0.

    It rises linearly over the warm-up epochs. Then, with ``steps``, it is a tenth from each milestone on (paper,
    Section 5.2); with ``poly`` it falls as (1 - p)^poly_power (Section 5.1, DeepLab's), with ``cosine`` as
    (1 + cos(pi p)) / 2, where p goes from 0 at the end of the warm-up to 1 at the end of the last epoch.

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
    if schedule.decay == "poly":
        return schedule.learning_rate * float((1 - progress) ** schedule.poly_power)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def cyclic_learning_rate(schedule: CyclicSchedule, step: int, steps_per_epoch: int) -> float:
    """The learning rate of fine-tuning step ``step``, counted from the end of retraining (paper, Appendix B, Fig. 11).

    >>> from qcore.recipe import CyclicSchedule
    >>> [round(cyclic_learning_rate(CyclicSchedule(), epoch * 390, 390), 8) for epoch in (0, 1, 4, 7, 8)]
    [0.001, 0.00031623, 1e-05, 0.00031623, 0.001]
    """
    within = step % (schedule.cycle_epochs * steps_per_epoch)
    return schedule.base_learning_rate * CYCLE[within * len(CYCLE) // (schedule.cycle_epochs * steps_per_epoch)]
