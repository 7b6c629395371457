"""The space of a search: every architecture within the budget, enumerated before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.architecture import LEAST_WIDTH, MOST_WIDTH, Architecture
from qcore.cost import parameters
from qcore.errors import InvalidInput
from qcore.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore.tasks import Task


def enumerate_candidates(
    task: Task,
    parameter_budget: int,
    blocks: Sequence[str] | None = None,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> tuple[Architecture, ...]:
    """For each block and depth the widest architecture within the budget, or those of the given widths that fit.

    Raises:
        InvalidInput: for blocks, depths or widths that do not exist, and for a budget that nothing fits.
    """
    chosen = _depths_by_block(task, blocks, depths)
    for width in widths or ():
        if not LEAST_WIDTH <= width <= MOST_WIDTH:
            raise InvalidInput("widths", width, "is out of range", f"use {LEAST_WIDTH} to {MOST_WIDTH}")
    candidates = []
    for block, block_depths in chosen.items():
        for depth in block_depths:
            widest = _widest(task, block, depth, parameter_budget)
            if widths is None:
                fitting = [widest] if widest else []
            else:
                fitting = [width for width in sorted(set(widths)) if width <= widest]
            candidates += [Architecture(block, depth, width) for width in fitting]
    if not candidates:
        least_width = LEAST_WIDTH if widths is None else min(widths)
        smallest = min(
            (Architecture(block, depth, least_width) for block, each in chosen.items() for depth in each),
            key=lambda architecture: parameters(architecture.layers(task)),
        )
        needed = parameters(smallest.layers(task))
        raise InvalidInput(
            "parameter_budget", parameter_budget, "fits no candidate", f"use at least {needed} ({smallest.name})"
        )
    return tuple(candidates)


def _depths_by_block(
    task: Task, blocks: Sequence[str] | None, depths: Sequence[int] | None
) -> dict[str, tuple[int, ...]]:
    for block in blocks or ():
        if block not in task.blocks:
            raise InvalidInput("blocks", block, f"does not suit task {task.name}", f"use {', '.join(task.blocks)}")
    families = [FAMILIES[block] for block in dict.fromkeys(blocks or task.blocks)]
    if depths is None:
        return {family.block: family.default_depths for family in families}
    chosen = {}
    for family in families:
        fitting = tuple(depth for depth in sorted(set(depths)) if _exists(family.block, depth))
        if fitting:
            chosen[family.block] = fitting
        elif blocks is not None:
            raise InvalidInput("depths", list(depths), f"suit no {family.block} network", _depth_rule(family.block))
    for depth in depths:
        if not any(depth in fitting for fitting in chosen.values()):
            rules = "; ".join(_depth_rule(family.block) for family in families)
            raise InvalidInput("depths", depth, "suits none of the blocks", rules)
    return chosen


def _exists(block: str, depth: int) -> bool:
    try:
        Architecture(block, depth, LEAST_WIDTH)
    except InvalidInput:
        return False
    return True


def _depth_rule(block: str) -> str:
    family = FAMILIES[block]
    return f"{block} has L{', L'.join(map(str, family.default_depths))} and others of the same form"


def _widest(task: Task, block: str, depth: int, parameter_budget: int) -> int:
    """The widest width within the budget, 0 if none; parameters rise with the width, so halving finds it."""
    low, high = LEAST_WIDTH - 1, MOST_WIDTH
    while low < high:
        middle = (low + high + 1) // 2
        if parameters(Architecture(block, depth, middle).layers(task)) <= parameter_budget:
            low = middle
        else:
            high = middle - 1
    return low if low >= LEAST_WIDTH else 0
