"""Draws what replays of the recorded table found: docs/figures/halving.png.

    python -m benchmarks.halving.figure [--replays 200]     # about five minutes on two cores, most of them GP's

Left: how far the candidate that would be chosen lies below the best one, by what has been spent; right: the same at the
end, each of the others having spent what successive halving did in the same replay.
"""

from __future__ import annotations

import argparse
import multiprocessing
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.halving.replay import MARGIN, PROMOTED_SHARE, RUNGS, Replay, Table, replayed
from qcore.devices import usable_cores
from searcher.planning import Strategy

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[2] / "docs/figures/halving.png"
HALVING, SAMPLERS = "successive halving", {"TPE": "tpe", "GP": "gp", "random": "random"}
COLORS = {HALVING: "tab:red", "TPE": "tab:blue", "GP": "tab:green", "random": "tab:gray"}
DASHES = {HALVING: "-", "TPE": "-", "GP": (0, (4, 2)), "random": ":"}
COSTS = np.linspace(0.0, 1.0, 201)
MOST_POINTS = 3.5

Replays = dict[str, list[Replay]]


def replays_of(table: Table, seed: int) -> tuple[dict[str, Replay], dict[str, Replay]]:
    """Of one seed by method: left to themselves until nothing is left, and for as much as halving spends."""
    halving = replayed(table, Strategy(promoted_share=PROMOTED_SHARE), RUNGS, "random", None, seed)
    whole, equal = {HALVING: halving}, {HALVING: halving}
    for name, sampler in SAMPLERS.items():
        whole[name] = replayed(table, Strategy(), (), sampler, None, seed)
        equal[name] = replayed(table, Strategy(), (), sampler, halving.cost, seed)
    return whole, equal


def gaps(table: Table, replays: list[Replay]) -> npt.NDArray[np.float64]:
    """Points below the best at each of ``COSTS``, a replay a row; infinite before there is a choice."""
    found = np.full((len(replays), len(COSTS)), np.inf)
    for row, replay in zip(found, replays, strict=True):
        for cost, chosen in replay.choices:
            row[cost <= COSTS] = table.regret(chosen)
    return found


def drawn(table: Table, whole: Replays, equal: Replays) -> Figure:
    figure = Figure(figsize=(9.6, 3.9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=False, width_ratios=[1.15, 1])
    count = len(whole[HALVING])
    for name, replays in whole.items():
        found = gaps(table, replays)
        low, mid, high = np.quantile(found, [0.1, 0.5, 0.9], axis=0, method="nearest")
        shown = np.isfinite(mid)
        if name == HALVING:
            shown &= max(each.cost for each in replays) + 0.02 >= COSTS
        left.plot(COSTS[shown], mid[shown], color=COLORS[name], linestyle=DASHES[name], label=name, linewidth=1.6)
        banded = shown & np.isfinite(high)
        left.fill_between(COSTS[banded], low[banded], high[banded], color=COLORS[name], alpha=0.12, linewidth=0)
    _described(left, f"median and middle 80 % of {count} replays", "cost, of every candidate once in full")
    left.set(xlim=(0, 1), ylim=(-0.05, MOST_POINTS), ylabel="W2A2 points below the best")
    left.axhline(MARGIN, color="black", linewidth=0.6, linestyle="--")
    left.legend(fontsize="small", frameon=False)
    for name, replays in equal.items():
        sorted_gaps = np.sort([table.regret(each.chosen) for each in replays])
        share = 100 * np.arange(1, count + 1) / count
        right.step(
            [0, *sorted_gaps, MOST_POINTS],
            [0, *share, 100],
            where="post",
            color=COLORS[name],
            linestyle=DASHES[name],
            label=name,
            linewidth=1.6,
        )
    mean_cost = np.mean([each.cost for each in equal[HALVING]])
    _described(right, f"at equal cost, {mean_cost:.2f} on average", "W2A2 points below the best")
    right.set(xlim=(-0.05, MOST_POINTS), ylim=(0, 103), ylabel="replays that end so near or nearer, %")
    right.axvline(MARGIN, color="black", linewidth=0.6, linestyle="--")
    return figure


def _described(axes: Axes, title: str, x: str) -> None:
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel(x)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--processes", type=int, default=usable_cores())
    arguments = parser.parse_args()
    table = Table.read()
    with multiprocessing.get_context("spawn").Pool(arguments.processes, warnings.simplefilter, ("ignore",)) as pool:
        found = pool.map(partial(replays_of, table), range(arguments.replays), chunksize=5)
    whole = {name: [each[name] for each, _ in found] for name in COLORS}
    equal = {name: [each[name] for _, each in found] for name in COLORS}
    drawn(table, whole, equal).savefig(PICTURE, metadata={"Software": None})
    print(f"{PICTURE}: {arguments.replays} replays a method")


if __name__ == "__main__":
    main()
