"""Figures 6 and 7: ResNets and MobileNetV2 on CIFAR-10, wider and deeper (paper, Section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore import paper
from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT, BitWidths
from qcore.cost import parameters
from qcore.reproduce.comparison import TWO_BITS, measured_cell, verdicts
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
    with_epochs,
)
from qcore.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TASKS: dict[Scale, str] = {"smoke": "digits", "cpu": "fashion-mnist-14", "paper": "cifar10"}
_SEEDS: dict[Scale, int] = {"smoke": 1, "cpu": 3, "paper": 1}
_RESNET_WIDTHS: dict[Scale, int] = {"smoke": 3, "cpu": 4, "paper": 16}
"""Channels of ResNet20x1."""
_TIMES: dict[Scale, tuple[int, ...]] = {"smoke": (1, 2), "cpu": (1, 2, 5), "paper": (1, 2, 5, 10)}
_DEPTHS: dict[Scale, tuple[int, ...]] = {"smoke": (20, 32), "cpu": (20, 32, 44), "paper": (20, 32, 44, 56, 110)}
_MULTIPLIERS: dict[Scale, tuple[str, ...]] = {
    "smoke": ("0.3", "0.5"),
    "cpu": ("0.3", "0.5", "0.7", "1.0"),
    "paper": ("0.3", "0.5", "0.7", "1.0"),
}
WIDTH, DEPTH, MULTIPLIER = "width of ResNet20", "depth of ResNet", "width multiplier of MobileNetV2"


@dataclass(frozen=True)
class Sweep:
    """Networks of one figure in panels, each with its bit widths and the orders that the text states."""

    name: str
    title: str
    bit_widths: tuple[BitWidths, ...]
    orderings: dict[str, str]
    """By panel, where the paper's orders are kept."""

    def plan(self, scale: Scale, options: Options) -> Plan:
        """Every panel's networks at a scale; the panel is a variant's condition."""
        task = get_task(_TASKS[scale])
        recipe = task.recipe("paper" if scale == "paper" else "short")
        recipe = with_epochs(recipe, 2, 1) if scale == "smoke" else recipe
        variants = tuple(
            Variant(network, architecture, recipe, self.bit_widths, panel)
            for panel in self.orderings
            for network, architecture in _networks(panel, scale)
        )
        return Plan(scale, task, variants, chosen_seeds(options, _SEEDS[scale]))

    def report(self, results: Results) -> Report:
        """A table a panel, and whether the orders hold that the text states."""
        plan = results.plan
        tables: list[Table] = []
        found: list[Verdict] = []
        for panel, stated in self.orderings.items():
            variants = {each.network: each for each in plan.variants if each.condition == panel}
            columns = ("network", "architecture", "parameters", *map(str, (FLOAT, *self.bit_widths)))
            rows = tuple(
                (
                    network,
                    each.architecture.name,
                    parameters(each.architecture.layers(plan.task)),
                    *(measured_cell(results, each, bits) for bits in (FLOAT, *self.bit_widths)),
                )
                for network, each in variants.items()
            )
            tables.append(Table(f"{self.title}: {panel}", columns, rows))
            found += verdicts(paper.orderings(stated), results, variants)
        notes = [
            f"Test accuracy on {plan.task.name}, %, mean over {len(plan.seeds)} seeds with 95 % t intervals.",
            "The paper prints no accuracies in this figure; its text states the orders.",
        ]
        if plan.scale != "paper" and WIDTH in self.orderings:
            notes.append(f"ResNet20x1 is {_RESNET_WIDTHS[plan.scale]} channels wide here; the paper's is 16.")
        return Report(tuple(tables), tuple(found), tuple(notes))

    def draw(self, results: Results) -> Figure:
        """A panel of lines for every panel of the figure."""
        from qcore.reproduce.pictures import accuracy_lines

        panels = {
            panel: [each for each in results.plan.variants if each.condition == panel] for panel in self.orderings
        }
        return accuracy_lines(self.title, results, panels)


def _networks(panel: str, scale: Scale) -> list[tuple[str, Architecture]]:
    width = _RESNET_WIDTHS[scale]
    match panel:
        case "width of ResNet20":
            return [(f"ResNet20x{times}", Architecture("basic", 20, width * times)) for times in _TIMES[scale]]
        case "depth of ResNet":
            return [(f"ResNet{depth}", Architecture("basic", depth, width)) for depth in _DEPTHS[scale]]
        case _:
            return [
                (f"MobileNetV2x{times}", Architecture.parse(f"mobilenetv2-x{times}")) for times in _MULTIPLIERS[scale]
            ]


_SWEEPS = (
    Sweep(
        "figure-6",
        "Figure 6: quantized ResNets",
        (*TWO_BITS, BitWidths(2, 4), BitWidths(None, 4)),
        {WIDTH: "figure_6_width", DEPTH: "figure_6_depth"},
    ),
    Sweep(
        "figure-7",
        "Figure 7: quantized MobileNetV2",
        (*TWO_BITS, BitWidths(2, 3), BitWidths(None, 3)),
        {MULTIPLIER: "figure_7"},
    ),
)

EXPERIMENTS = tuple(Experiment(each.name, each.title, each.plan, each.report, each.draw) for each in _SWEEPS)
