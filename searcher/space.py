"""The space of a search: every architecture within the budgets, enumerated before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.architecture import Architecture
from qcore.errors import InvalidInput
from qcore.families import FAMILIES
from qcore.families.family import LEAST_WIDTH, MOST_WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore.families import Family
    from qcore.tasks import Task
    from searcher.budgets import Budgets


def enumerate_candidates(
    task: Task,
    budgets: Budgets,
    blocks: Sequence[str] | None = None,
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
    architectures: Sequence[str] | None = None,
) -> tuple[Architecture, ...]:
    """For each block and depth the largest architecture within all budgets, or those of the given widths that fit.

    The blocks are the task's default ones if none are given. What is made as large as fits is the width or, where a
    family's channels follow a multiplier, the multiplier in its steps. With ``architectures``, names or aliases, those
    are the candidates.

    Raises:
        InvalidInput: for blocks, depths, widths or architectures that do not exist, for architectures over a budget
            or beside blocks, depths or widths, and for budgets that nothing fits.
    """
    if architectures is not None:
        for field, given in (("blocks", blocks), ("depths", depths), ("widths", widths)):
            if given is not None:
                raise InvalidInput(field, list(given), "cannot stand beside architectures", "give one or the other")
        return _named(task, budgets, architectures)
    chosen = _depths_by_block(task, blocks, depths)
    for width in widths or ():
        if not LEAST_WIDTH <= width <= MOST_WIDTH:
            raise InvalidInput("widths", width, "is out of range", f"use {LEAST_WIDTH} to {MOST_WIDTH}")
    candidates = []
    for block, block_depths in chosen.items():
        for depth in block_depths:
            fitting = _fitting_scales(task, FAMILIES[block], depth, budgets)
            if widths is None:
                candidates += [_architecture(block, depth, scale) for scale in fitting[-1:]]
            else:
                candidates += _of_widths(block, depth, fitting, widths)
    if not candidates:
        raise _fits_nothing(task, budgets, chosen, widths)
    return tuple(candidates)


def _named(task: Task, budgets: Budgets, names: Sequence[str]) -> tuple[Architecture, ...]:
    candidates: dict[Architecture, str] = {}
    for name in names:
        try:
            architecture = Architecture.parse(name)
            exceeded = budgets.exceeded_by(architecture, task)
        except InvalidInput as error:
            problem = (
                error.problem if error.value == name else f"is refused: {error.field} {error.value} {error.problem}"
            )
            raise InvalidInput("architectures", name, problem, error.remedy) from None
        if architecture in candidates:
            problem = "is there twice" if candidates[architecture] == name else f"is {candidates[architecture]} again"
            raise InvalidInput("architectures", name, problem, "name each once")
        if exceeded:
            over = (f"{each.needed} {each.unit}, more than the budget of {each.budget}" for each in exceeded)
            remedy = f"leave it out or raise {' and '.join(f'{each.field} to {each.needed}' for each in exceeded)}"
            raise InvalidInput("architectures", name, f"has {', and '.join(over)}", remedy)
        candidates[architecture] = name
    return tuple(candidates)


def _depths_by_block(
    task: Task, blocks: Sequence[str] | None, depths: Sequence[int] | None
) -> dict[str, tuple[int, ...]]:
    for block in blocks or ():
        if block not in task.blocks:
            raise InvalidInput("blocks", block, f"does not suit task {task.name}", f"use {', '.join(task.blocks)}")
    families = [FAMILIES[block] for block in dict.fromkeys(blocks or task.default_blocks)]
    if depths is None:
        return {family.block: family.default_depths for family in families}
    chosen = {}
    for family in families:
        fitting = tuple(depth for depth in sorted(set(depths)) if _exists(family, depth))
        if fitting:
            chosen[family.block] = fitting
        elif blocks is not None:
            raise InvalidInput("depths", list(depths), f"suit no {family.block} network", family.depth_rule)
    for depth in depths:
        if not any(depth in fitting for fitting in chosen.values()):
            rules = "; ".join(family.depth_rule for family in families)
            raise InvalidInput("depths", depth, "suits none of the blocks", rules)
    return chosen


def _exists(family: Family, depth: int) -> bool:
    try:
        family.size(depth, family.scales[0])
    except InvalidInput:
        return False
    return True


def _architecture(block: str, depth: int, scale: int) -> Architecture:
    return Architecture(block, *FAMILIES[block].size(depth, scale))


def _of_widths(block: str, depth: int, scales: range, widths: Sequence[int]) -> list[Architecture]:
    sizes = [FAMILIES[block].size(depth, scale) for scale in scales]
    return [Architecture(block, *size) for size in sizes if size.width in widths]


def _fitting_scales(task: Task, family: Family, depth: int, budgets: Budgets) -> range:
    """The scales within all budgets; every cost rises with the scale, so halving finds the largest."""
    low, high = 0, len(family.scales)
    while low < high:
        middle = (low + high) // 2
        if budgets.exceeded_by(_architecture(family.block, depth, family.scales[middle]), task):
            high = middle
        else:
            low = middle + 1
    return family.scales[:low]


def _fits_nothing(
    task: Task, budgets: Budgets, chosen: dict[str, tuple[int, ...]], widths: Sequence[int] | None
) -> InvalidInput:
    """The refusal of budgets, with the least that some candidate fits; or of widths that no candidate has.

    Of several budgets, the least is where the one to raise most, as a ratio, is raised by as little as possible.
    """
    smallest: list[Architecture] = []
    for block, block_depths in chosen.items():
        scales = FAMILIES[block].scales
        for depth in block_depths:
            if widths is None:
                smallest.append(_architecture(block, depth, scales[0]))
            else:
                smallest += _of_widths(block, depth, scales, widths)[:1]
    if not smallest:
        sizes = [FAMILIES[block].size(chosen[block][0], scale) for block in chosen for scale in FAMILIES[block].scales]
        known = ", ".join(map(str, sorted({size.width for size in sizes})))
        return InvalidInput("widths", list(widths or ()), f"suit no {' or '.join(chosen)} network", f"use {known}")
    excesses = [(budgets.exceeded_by(architecture, task), architecture) for architecture in smallest]
    exceeded, least = min(excesses, key=lambda each: max(excess.needed / excess.budget for excess in each[0]))
    first, *others = exceeded
    also = "".join(f", and a {each.field} of at least {each.needed}" for each in others)
    remedy = f"use at least {first.needed}{also} ({least.name})"
    return InvalidInput(first.field, first.budget, "leaves no candidate", remedy)
