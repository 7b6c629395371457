"""Figure 8 and Table 5: three block kinds, deeper and narrower at equal parameters (paper, Section 5.3, Appendix D)."""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING, TypeAlias

from qcore import paper
from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT
from qcore.cost import parameters
from qcore.reproduce.comparison import TWO_BITS, W2A2, measure
from qcore.reproduce.experiment import (
    Experiment,
    Options,
    Plan,
    Report,
    Results,
    Scale,
    Table,
    Variant,
    Verdict,
    chosen_seeds,
    renamed,
    with_epochs,
)
from qcore.statistics import kendall_tau, pooled_intervals
from qcore.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qcore.bit_widths import BitWidths
    from qcore.reproduce.experiment import Cell
    from qcore.tasks import Task

SWEPT_BLOCKS = ("basic", "preact", "depthwise")
_CPU_PARAMETERS, _SMOKE_PARAMETERS = 40_000, 8_000
_CPU_DEPTHS = {"basic": (8, 14, 20, 32, 44), "preact": (8, 14, 20, 32, 44), "depthwise": (11, 20, 29, 38, 47)}
_SMOKE_DEPTHS = {"basic": (8, 14), "preact": (8, 14), "depthwise": (11, 20)}
_SEEDS: dict[Scale, int] = {"smoke": 2, "cpu": 3, "paper": 1}


def nearest_width(task: Task, block: str, depth: int, parameter_count: int) -> Architecture:
    """The network of that block kind and depth whose parameters are nearest, as a ratio, to a count.

    >>> nearest_width(get_task("fashion-mnist-14"), "basic", 44, 40_000).name
    'basic-L44-D4'
    """

    def distance(architecture: Architecture) -> float:
        return abs(math.log(parameters(architecture.layers(task)) / parameter_count))

    best = Architecture(block, depth, 3)
    while distance(wider := Architecture(block, depth, best.width + 1)) < distance(best):
        best = wider
    return best


def plan(scale: Scale, options: Options) -> Plan:
    """Every depth of every block kind, at the width nearest to one number of parameters."""
    if scale == "paper":
        task = get_task("cifar10")
        networks = [Architecture(row.block, row.depth, row.width) for row in paper.table_5()]
        recipe = task.recipe("paper")
    else:
        task = get_task("digits" if scale == "smoke" else "fashion-mnist-14")
        depths = _SMOKE_DEPTHS if scale == "smoke" else _CPU_DEPTHS
        count = _SMOKE_PARAMETERS if scale == "smoke" else _CPU_PARAMETERS
        networks = [nearest_width(task, block, depth, count) for block in SWEPT_BLOCKS for depth in depths[block]]
        recipe = task.recipe("short")
        # Within 90 minutes on two cores: three quarters of the recipe's float epochs, three fifths of its retraining.
        recipe = with_epochs(recipe, *((1, 1) if scale == "smoke" else (6, 3)))
    variants = tuple(Variant(each.name, each, recipe, TWO_BITS) for each in networks)
    return Plan(scale, task, variants, chosen_seeds(options, _SEEDS[scale]))


def report(results: Results) -> Report:
    """A table a block kind; verdicts on float accuracy, depth and W2A2, here and in the paper's Table 5."""
    variants = results.plan.variants
    cells = interval_cells(results)
    published = (
        {(row.block, row.depth): row.accuracies for row in paper.table_5()} if results.plan.scale == "paper" else {}
    )
    tables = []
    for block in SWEPT_BLOCKS:
        rows = [
            _row(results, variant, cells, published.get((block, variant.architecture.depth)))
            for variant in variants
            if variant.architecture.block == block
        ]
        columns = ["network", "parameters"]
        for bits in (FLOAT, *TWO_BITS):
            columns += [str(bits), f"{bits} paper"] if published else [str(bits)]
        tables.append(Table(f"{block} blocks", (*columns, "drop"), tuple(rows)))
    if not published:
        tables.append(_published_table())
    note = (
        f"Test accuracy on {results.plan.task.name}, %, mean over {len(results.plan.seeds)} seeds with 95 % t "
        "intervals, variance pooled over networks. drop: float less W2A2, paired by seed."
    )
    return Report(tuple(tables), _verdicts(results), (note,))


def interval_cells(results: Results) -> dict[tuple[str, str], Cell]:
    """Every network's mean with its interval by bit widths, variance pooled over networks; and so its ``drop``.

    The drop is float accuracy less that at W2A2, paired by seed.
    """
    cells: dict[tuple[str, str], Cell] = {}
    for column, name in [*((str(bits), str(bits)) for bits in (FLOAT, *TWO_BITS)), ("drop", "drop_W2A2")]:
        found = {each.network: list(measure(results, each, name).values()) for each in results.plan.variants}
        finished = {network: values for network, values in found.items() if values}
        intervals = pooled_intervals(list(finished.values())) if finished else ()
        cells |= {(network, column): "diverged" for network in found}
        cells |= {(network, column): interval for network, interval in zip(finished, intervals, strict=True)}
    return cells


def _row(
    results: Results,
    variant: Variant,
    cells: dict[tuple[str, str], Cell],
    published: paper.Accuracies | None,
) -> tuple[Cell, ...]:
    row: list[Cell] = [variant.network, parameters(variant.architecture.layers(results.plan.task))]
    for bits in (FLOAT, *TWO_BITS):
        row.append(cells[variant.network, str(bits)])
        if published is not None:
            row.append(published[str(bits)])
    return (*row, cells[variant.network, "drop"])


def _published_table() -> Table:
    rows: list[tuple[Cell, ...]] = [
        (row.block, row.depth, *row.accuracies.values(), row.accuracies["float"] - row.accuracies["W2A2"])
        for row in paper.table_5()
    ]
    columns = ("block", "depth", "float", *map(str, TWO_BITS), "drop")
    return Table("The paper's Table 5: CIFAR-10, one million parameters", columns, tuple(rows))


def _verdicts(results: Results) -> tuple[Verdict, ...]:
    measured = [
        (variant.architecture.block, variant.architecture.depth, _means(results, variant))
        for variant in results.plan.variants
    ]
    finished = [(block, depth, means) for block, depth, means in measured if means is not None]
    printed = [(row.block, row.depth, row.accuracies) for row in paper.table_5()]
    found = [_float_order(results, finished, printed, None)]
    for block in SWEPT_BLOCKS:
        found += [_float_order(results, finished, printed, block), *_depth_verdicts(finished, printed, block)]
    return tuple(each for each in found if each is not None)


_Rows: TypeAlias = list[tuple[str, int, dict[str, float]]]
"""(block, depth, accuracies) of every network."""


def _float_order(results: Results, measured: _Rows, printed: _Rows, block: str | None) -> Verdict | None:
    """Whether float accuracy predicts the W2A2 order worse than W2A2 itself does from another seed.

    Noise alone keeps any two orders apart: what another seed's W2A2 order agrees to is the most that could be asked.
    With one seed there is nothing to compare with, and any difference of the orders counts.
    """
    taus = []
    for rows in (measured, printed):
        chosen = [means for kind, _, means in rows if block in (None, kind)]
        taus.append(kendall_tau([each["float"] for each in chosen], [each["W2A2"] for each in chosen]))
    ours, theirs = taus
    if ours is None or theirs is None:
        return None
    where = f"{block} blocks" if block else "all networks"
    between = [_tau_between_seeds(results, block, bits) for bits in (FLOAT, W2A2)]
    if between[0] is None or between[1] is None:
        statement, holds, measured_text = (
            f"the float order is not the W2A2 order, {where} (Kendall's tau)",
            ours < 1,
            f"tau {ours:+.2f}",
        )
    else:
        statement = (
            f"another seed's W2A2 order predicts the W2A2 order better than its float order does, {where} "
            "(our own measure, not the paper's: Kendall's tau)"
        )
        holds = between[0] < between[1]
        measured_text = f"tau {ours:+.2f} of means; between seeds float {between[0]:+.2f}, W2A2 {between[1]:+.2f}"
    return Verdict(statement, holds, published=f"tau {theirs:+.2f}", measured=measured_text)


def _tau_between_seeds(results: Results, block: str | None, bits: BitWidths) -> float | None:
    """Mean tau of one seed's order at some bit widths and another's at W2A2, over networks that ended for all seeds."""
    chosen = [each for each in results.plan.variants if block in (None, each.architecture.block)]
    values = [(results.accuracies(each, bits), results.accuracies(each, W2A2)) for each in chosen]
    whole = [pair for pair in values if all(len(each) == len(results.plan.seeds) for each in pair)]
    taus = [
        kendall_tau([of[one] for of, _ in whole], [at[other] for _, at in whole])
        for one, other in permutations(results.plan.seeds, 2)
    ]
    found = [tau for tau in taus if tau is not None]
    return sum(found) / len(found) if found else None


def _depth_verdicts(measured: _Rows, printed: _Rows, block: str) -> list[Verdict]:
    sides = []
    for rows in (measured, printed):
        chosen = sorted(((depth, means) for kind, depth, means in rows if kind == block), key=lambda row: row[0])
        if not chosen:  # all diverged
            return []
        depths = [float(depth) for depth, _ in chosen]
        drops = [means["float"] - means["W2A2"] for _, means in chosen]
        best = {bits: max(chosen, key=lambda row, bits=bits: row[1][bits])[0] for bits in ("float", "W2A2")}  # type: ignore[misc]
        sides.append((kendall_tau(depths, drops), best))
    (ours, best), (theirs, printed_best) = sides
    if ours is None or theirs is None:
        return []
    return [
        Verdict(
            f"the drop grows with depth, {block} blocks (Kendall's tau)",
            ours > 0,
            published=f"tau {theirs:+.2f}",
            measured=f"tau {ours:+.2f}",
        ),
        Verdict(
            f"the best depth at W2A2 is below float's, {block} blocks",
            best["W2A2"] < best["float"],
            published=f"L{printed_best['W2A2']} and L{printed_best['float']}",
            measured=f"L{best['W2A2']} and L{best['float']}",
        ),
    ]


def _means(results: Results, variant: Variant) -> dict[str, float] | None:
    found = {str(bits): list(results.accuracies(variant, bits).values()) for bits in (FLOAT, *TWO_BITS)}
    if not all(found.values()):
        return None
    return {bits: sum(values) / len(values) for bits, values in found.items()}


def draw(results: Results) -> Figure:
    """Accuracy against depth, a panel a block kind."""
    from qcore.reproduce.pictures import accuracy_against_depth

    return accuracy_against_depth(
        "Figure 8: accuracy against depth at equal parameters", results, interval_cells(results)
    )


_FIGURE_8 = Experiment("figure-8", "Figure 8: depth at equal parameters", plan, report, draw)
EXPERIMENTS = (_FIGURE_8, renamed(_FIGURE_8, "table-5", "Table 5: depth at equal parameters"))
