"""Figures 1, 2, 3, 9 and 10: fully connected networks on the synthetic rings (paper, Section 3 and Appendix A)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore import paper
from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT
from qcore.reproduce.comparison import TWO_BITS, measured_cell, verdicts
from qcore.reproduce.experiment import (
    Experiment,
    Options,
    Plan,
    Policy,
    Report,
    Results,
    Scale,
    Table,
    Variant,
    Verdict,
    by_network,
    chosen_seeds,
    with_epochs,
    with_policy,
    with_quantizers,
)
from qcore.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qcore.recipe import Recipe
    from qcore.reproduce.experiment import Cell

_CONDITIONS: dict[Policy, str] = {
    "float": "first and last layer float",
    "8": "first and last layer 8-bit",
    "same": "every layer quantized",
}
_SEEDS: dict[Scale, int] = {"smoke": 2, "cpu": 3, "paper": 10}
_FLOAT_EPOCHS = {"plain": 100, "residual": 200}
"""After 100, residual 128-4 is still learning (81 to 92 %, by seed)."""


@dataclass(frozen=True)
class RingsFigure:
    """Networks of one figure; the paper writes them "width-depth"."""

    name: str
    title: str
    block: str
    networks: tuple[str, ...]
    quantized: bool = True
    requantized_sums: bool = True
    """Whether the sums of residual networks are quantized again: in Fig. 10, not in Fig. 3."""

    def plan(self, scale: Scale, options: Options) -> Plan:
        """Every network under every layer policy; float ones are trained under one, which they do not read."""
        policies = options.policies or ("float", "same") if self.quantized else ("float",)
        variants = [
            Variant(
                network,
                fully_connected(self.block, network),
                with_quantizers(with_policy(self._recipe(scale), policy), requantized_sums=self.requantized_sums),
                TWO_BITS if self.quantized else (),
                _CONDITIONS[policy] if self.quantized else "",
            )
            for policy in policies
            for network in self.networks
        ]
        return Plan(scale, get_task("rings"), tuple(variants), chosen_seeds(options, _SEEDS[scale]))

    def report(self, results: Results) -> Report:
        """A table and the verdicts for each layer policy."""
        published = self._published()
        conditions = list(dict.fromkeys(variant.condition for variant in results.plan.variants))
        tables = [self._table(results, condition, published) for condition in conditions]
        found: list[Verdict] = []
        for condition in conditions:
            variants = by_network(results.plan.variants, condition)
            where = f" ({condition})" if condition else ""
            found += verdicts(paper.orderings(self.name.replace("-", "_")), results, variants, where)
        notes = [
            f"Accuracy for the correct answer, %, mean over {len(results.plan.seeds)} seeds with 95 % t intervals."
        ]
        if not published:
            notes.append("The paper prints no accuracies in this figure; its text states the orders.")
        return Report(tuple(tables), tuple(found), tuple(notes))

    def draw(self, results: Results) -> Figure:
        """What the networks of the first seed predict where on the plane."""
        from qcore.reproduce.pictures import prediction_maps

        return prediction_maps(self.title, results)

    def _recipe(self, scale: Scale) -> Recipe:
        recipe = get_task("rings").recipe("paper")
        if scale != "smoke":
            return with_epochs(recipe, _FLOAT_EPOCHS[self.block], recipe.retraining.schedule.epochs)
        quick = with_epochs(recipe, 2, 1)
        return quick.model_copy(update={"float_part": quick.float_part.model_copy(update={"batch_size": 512})})

    def _table(self, results: Results, condition: str, published: dict[str, paper.Accuracies]) -> Table:
        widths = (FLOAT, *(TWO_BITS if self.quantized else ()))
        columns = ["network"]
        for bits in widths:
            columns.append(str(bits))
            columns += [f"{bits} paper"] * any(str(bits) in each for each in published.values())
        rows = []
        for network, variant in by_network(results.plan.variants, condition).items():
            row: list[Cell] = [network]
            for bits in widths:
                row.append(measured_cell(results, variant, bits))
                if f"{bits} paper" in columns:
                    row.append(published.get(network, {}).get(str(bits)))
            rows.append(tuple(row))
        return Table(f"{self.title}{f' – {condition}' if condition else ''}", tuple(columns), tuple(rows))

    def _published(self) -> dict[str, paper.Accuracies]:
        if self.name in ("figure-9", "figure-10"):
            return {}
        found = {name: dict(values) for name, values in paper.synthetic(self.name).items()}
        if self.block == "plain":  # Figure 1 prints 128-4's float accuracy for them all
            for name, values in paper.synthetic("figure-1").items():
                found.setdefault(name, {}).update(values)
        return found


def fully_connected(block: str, network: str) -> Architecture:
    """The architecture that the paper's "width-depth" stands for.

    >>> fully_connected("plain", "128-4").name
    'plain-L4-D128'
    """
    width, depth = network.split("-")
    return Architecture(block, int(depth), int(width))


_FIGURES = (
    RingsFigure(
        "figure-1",
        "Figure 1: float networks on the rings",
        "plain",
        ("128-3", "128-4", "256-3"),
        quantized=False,
    ),
    RingsFigure("figure-2", "Figure 2: 2-bit plain networks on the rings", "plain", ("128-4", "256-4", "128-8")),
    RingsFigure(
        "figure-3",
        "Figure 3: 2-bit residual networks on the rings",
        "residual",
        ("128-4", "128-8"),
        requantized_sums=False,
    ),
    RingsFigure(
        "figure-9",
        "Figure 9: more 2-bit plain networks on the rings",
        "plain",
        ("200-4", "384-4", "128-5", "128-6", "128-8"),
    ),
    RingsFigure(
        "figure-10",
        "Figure 10: residual networks whose sums are quantized again",
        "residual",
        ("128-5", "128-6", "128-8"),
    ),
)

EXPERIMENTS = tuple(
    Experiment(each.name, each.title, each.plan, each.report, each.draw, has_policies=each.quantized)
    for each in _FIGURES
)
