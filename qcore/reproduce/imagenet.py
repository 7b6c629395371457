"""Table 1: ResNets on ImageNet. Parameters and MACs are computed; accuracies take the data set and weeks."""

from __future__ import annotations

from qcore import paper
from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT
from qcore.cost import macs, parameters
from qcore.reproduce.comparison import W2A2, measured_cell
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
    by_network,
    chosen_seeds,
    with_quantizers,
)
from qcore.tasks import get_task

_TOLERANCE = 0.1
"""Of parameters in millions and MACs in billions, which the paper prints with one digit."""


def plan(scale: Scale, options: Options) -> Plan:
    """Every network at scale paper; none below it, where the costs alone are reported."""
    task = get_task("imagenet")
    recipe = with_quantizers(task.recipe("paper"), weight_levels="mid_rise")  # Section 5.3: 4-level weights
    rows = paper.table_1() if scale == "paper" else ()
    variants = tuple(Variant(row.name, architecture_of(row), recipe, (W2A2,)) for row in rows)
    return Plan(scale, task, variants, chosen_seeds(options, 1))


def architecture_of(row: paper.ImageNetNetwork) -> Architecture:
    """The network of a row of Table 1."""
    blocks = ".".join(map(str, row.blocks_per_group))
    return Architecture.parse(f"imagenet-{row.block}-L{row.depth}-D{row.width}-B{blocks}")


def report(results: Results) -> Report:
    """Costs beside the paper's, and accuracies where they were measured."""
    variants = by_network(results.plan.variants, "")
    rows, differences = [], []
    for row in paper.table_1():
        architecture = architecture_of(row)
        layers = architecture.layers(results.plan.task)
        millions, billions = parameters(layers) / 1e6, macs(layers) / 1e9
        differences.append((abs(millions - row.parameters_millions), abs(billions - row.macs_billions)))
        accuracies = [
            cell
            for bits in (FLOAT, W2A2)
            for cell in (
                measured_cell(results, variants[row.name], bits) if results.trained else None,
                row.accuracies[str(bits)],
            )
        ]
        rows.append(
            (
                row.name,
                architecture.name,
                millions,
                row.parameters_millions,
                billions,
                row.macs_billions,
                *accuracies,
            )
        )
    columns = ("network", "architecture", "M parameters", "paper", "G MACs", "paper ", *_accuracy_columns())
    found = (
        Verdict(
            f"parameters within {_TOLERANCE} M and MACs within {_TOLERANCE} G of the paper's",
            all(max(each) <= _TOLERANCE for each in differences),
            measured=f"at most {max(a for a, _ in differences):.2f} M and {max(b for _, b in differences):.2f} G off",
        ),
    )
    notes = () if results.trained else ("Costs are computed; accuracies were not measured.",)
    return Report((Table("Table 1: ResNets on ImageNet", columns, tuple(rows)),), found, notes)


def _accuracy_columns() -> tuple[str, ...]:
    return tuple(name for bits in (FLOAT, W2A2) for name in (str(bits), f"{bits} paper"))


EXPERIMENTS = (Experiment("table-1", "Table 1: ResNets on ImageNet", plan, report, reports_untrained=True),)
