"""Measured values beside published ones: cells over seeds, and whether the paper's orders hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from qcore.bit_widths import FLOAT, BitWidths
from qcore.reproduce.experiment import Verdict
from qcore.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qcore.paper import Ordering
    from qcore.reproduce.experiment import Cell, Results, Variant

W2AF, WFA2, W2A2 = BitWidths(2, None), BitWidths(None, 2), BitWidths(2, 2)
TWO_BITS = (W2AF, WFA2, W2A2)


def measured_cell(results: Results, variant: Variant, bits: BitWidths) -> Cell:
    """The mean over seeds with its t interval; ``diverged`` where no seed came through."""
    found = list(results.accuracies(variant, bits).values())
    return mean_interval(found) if found else "diverged"


def measure(results: Results, variant: Variant, name: str) -> dict[int, float]:
    """Accuracy by seed at some bit widths, or how far below float it is where the name starts with ``drop_``."""
    found = results.accuracies(variant, BitWidths.parse(name.removeprefix("drop_")))
    if not name.startswith("drop_"):
        return found
    full = results.accuracies(variant, FLOAT)
    return {seed: full[seed] - accuracy for seed, accuracy in found.items() if seed in full}


def verdict(ordering: Ordering, results: Results, variants: Mapping[str, Variant], where: str = "") -> Verdict | None:
    """Whether an order of the paper holds in the means and in how many seeds, among the networks that were run."""
    groups = (tuple(name for name in group if name in variants) for group in ordering.order)
    ordering = replace(ordering, order=tuple(group for group in groups if group))
    if len(ordering.order) < 2:
        return None
    variants = {name: variants[name] for group in ordering.order for name in group}
    by_seed = {name: measure(results, variants[name], ordering.measure) for name in variants}
    seeds = [seed for seed in results.plan.seeds if all(seed in found for found in by_seed.values())]
    if not seeds:
        return None
    means = {name: sum(found[seed] for seed in seeds) / len(seeds) for name, found in by_seed.items()}
    held = sum(holds(ordering, {name: found[seed] for name, found in by_seed.items()}) for seed in seeds)
    return Verdict(f"{ordering}{where}", holds(ordering, means), held, len(seeds), published=ordering.where)


def holds(ordering: Ordering, values: Mapping[str, float]) -> bool:
    """Whether every network's value is above those of the groups after its own."""
    groups = [[values[name] for name in group] for group in ordering.order]
    return all(min(better) > max(worse) for better, worse in pairwise(groups))


def verdicts(
    orderings: Iterable[Ordering], results: Results, variants: Mapping[str, Variant], where: str = ""
) -> tuple[Verdict, ...]:
    """Those on orders that can be judged by the networks that were run."""
    found = (verdict(each, results, variants, where) for each in orderings)
    return tuple(each for each in found if each is not None)
