"""Table 4: L_Lip and the cyclic learning rate; and, beyond the paper, LSQ's learned step sizes. Paired by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore import paper
from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT
from qcore.recipe import CyclicSchedule
from qcore.reproduce.comparison import W2A2
from qcore.reproduce.experiment import (
    Experiment,
    Options,
    Plan,
    Report,
    Results,
    Scale,
    Table,
    Variant,
    by_network,
    chosen_seeds,
    with_epochs,
    with_quantizers,
)
from qcore.statistics import mean_interval, paired_difference
from qcore.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qcore.recipe import Recipe
    from qcore.reproduce.experiment import Cell

LIPSCHITZ_SCALE = 1e-4
"""Section 5.4."""
_BASE_SHARE = 0.1
"""Base of the cyclic rate over retraining's initial rate: Section 5.4's 1e-3 over 1e-2."""
_PAPER_DEPTHS = (20, 32, 56, 110)
_SEEDS: dict[Scale, int] = {"smoke": 2, "cpu": 5, "paper": 5}
RETRAIN, LIPSCHITZ, CLR, BOTH = "retrain", "L_Lip", "CLR", "L_Lip + CLR"
LONGER = "retrain longer"
"""Retraining without cycles for as many epochs as with them: what of CLR's gain is its length."""


def with_method(recipe: Recipe, method: str, cycles: int) -> Recipe:
    """The recipe with the paper's L_Lip, so many cycles of CLR after retraining, or both; or with a longer schedule."""
    if method == LONGER:
        epochs = recipe.retraining.schedule.epochs + cycles * CyclicSchedule().cycle_epochs
        return with_epochs(recipe, recipe.float_part.schedule.epochs, epochs)
    changes: dict[str, object] = {}
    if method in (LIPSCHITZ, BOTH):
        changes["lipschitz_scale"] = LIPSCHITZ_SCALE
    if method in (CLR, BOTH):
        cyclic = CyclicSchedule(base_learning_rate=recipe.retraining.schedule.learning_rate * _BASE_SHARE)
        changes["cyclic"] = cyclic.model_copy(update={"epochs": cycles * cyclic.cycle_epochs})
    return recipe.model_copy(update={"retraining": recipe.retraining.model_copy(update=changes)})


def table_4_plan(scale: Scale, options: Options) -> Plan:
    """Every network by every training method, at W2A2."""
    if scale == "paper":
        task = get_task("cifar10")
        recipe, cycles = task.recipe("paper"), 5
        networks = [(f"ResNet{depth}", Architecture("basic", depth, 16)) for depth in _PAPER_DEPTHS]
    elif scale == "cpu":
        task = get_task("fashion-mnist-14")
        recipe, cycles = with_epochs(task.recipe("short"), 6, 3), 1  # as Figure 8's, with which it shares stages
        networks = [(name, Architecture.parse(name)) for name in ("basic-L8-D11", "basic-L44-D4")]
    else:
        task = get_task("digits")
        recipe, cycles = with_epochs(task.recipe("short"), 2, 1), 1
        networks = [("basic-L14-D3", Architecture("basic", 14, 3))]
    variants = tuple(
        Variant(network, architecture, with_method(recipe, method, cycles), (W2A2,), method)
        for network, architecture in networks
        for method in (RETRAIN, LIPSCHITZ, CLR, BOTH, LONGER)
    )
    return Plan(scale, task, variants, chosen_seeds(options, _SEEDS[scale]))


def table_4_report(results: Results) -> Report:
    """Every method's difference to plain retraining, and the paper's Table 4."""
    table = _paired_table("Table 4: W2A2 with L_Lip and CLR", results, RETRAIN)
    published = Table(
        "The paper's Table 4: CIFAR-10 ResNets",
        ("depth", "float", "W2A2", "W2A2, L_Lip + CLR", "difference"),
        tuple(
            (depth, row["float"], row["W2A2"], row["W2A2+lipschitz+clr"], row["W2A2+lipschitz+clr"] - row["W2A2"])
            for depth, row in paper.table_4().items()
        ),
    )
    notes = (
        _note(results),
        f"CLR trains {_cycle_epochs(results)} epochs more than plain retraining, as the paper's does.",
        f"{LONGER!r} trains as long as CLR, by one schedule.",
    )
    return Report((table, published), (), notes)


def lsq_plan(scale: Scale, options: Options) -> Plan:
    """One network with both kinds of step sizes, otherwise retrained as in Table 4."""
    base = table_4_plan(scale, options)
    recipe = next(variant.recipe for variant in base.variants if variant.condition == RETRAIN)
    names = {"smoke": "basic-L8-D4", "cpu": "basic-L20-D6", "paper": "basic-L20-D16"}
    architecture = Architecture.parse(names[scale])
    learned = with_quantizers(recipe, weight_step="learned", activation_step="learned")
    variants = (
        Variant(architecture.name, architecture, recipe, (W2A2,), "L2 + PACT"),
        Variant(architecture.name, architecture, learned, (W2A2,), "LSQ"),
    )
    return Plan(scale, base.task, variants, base.seeds)


def lsq_report(results: Results) -> Report:
    """LSQ's difference to L2-optimal steps with PACT."""
    table = _paired_table("LSQ against L2-optimal steps and PACT at W2A2", results, "L2 + PACT")
    notes = (
        _note(results),
        "Both have ternary weights. LSQ learns all step sizes; the other fits those of weights by least squares and",
        "learns clipping values. The paper has no such comparison.",
    )
    return Report((table,), (), notes)


def _paired_table(title: str, results: Results, baseline: str) -> Table:
    bases = by_network(results.plan.variants, baseline)
    rows: list[tuple[Cell, ...]] = []
    for variant in results.plan.variants:
        found, base = results.accuracies(variant, W2A2), results.accuracies(bases[variant.network], W2A2)
        full = list(results.accuracies(variant, FLOAT).values())
        seeds = [seed for seed in found if seed in base]
        difference = (
            paired_difference([found[seed] for seed in seeds], [base[seed] for seed in seeds])
            if seeds and variant.condition != baseline
            else None
        )
        rows.append(
            (
                variant.network,
                variant.condition,
                mean_interval(full) if full else "diverged",
                mean_interval(list(found.values())) if found else "diverged",
                difference,
            )
        )
    return Table(title, ("network", "method", "float", "W2A2", f"difference to {baseline}"), tuple(rows))


def _note(results: Results) -> str:
    return (
        f"Test accuracy on {results.plan.task.name}, %, mean over {len(results.plan.seeds)} seeds with 95 % t "
        "intervals; differences are paired by seed, which shares the float network."
    )


def _cycle_epochs(results: Results) -> int:
    return max(
        variant.recipe.retraining.cyclic.epochs for variant in results.plan.variants if variant.recipe.retraining.cyclic
    )


def draw_differences(results: Results) -> Figure:
    """Every seed's W2A2 accuracy by training method, a panel a network."""
    from qcore.reproduce.pictures import accuracy_by_condition

    return accuracy_by_condition("W2A2 by training method", results, W2A2)


EXPERIMENTS = (
    Experiment("table-4", "Table 4: L_Lip and cyclic learning rates", table_4_plan, table_4_report, draw_differences),
    Experiment(
        "lsq-comparison",
        "LSQ against L2-optimal steps and PACT (not in the paper)",
        lsq_plan,
        lsq_report,
        draw_differences,
    ),
)
