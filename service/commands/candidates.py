"""``quantrank candidates``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import describe, get_task
from searcher.budgets import Budgets, budgets_in_words
from searcher.named import DEFAULT_BIT_WIDTHS, parse_bit_widths, resolve_recipe
from searcher.space import enumerate_candidates
from service.output import number, print_json, print_table
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Prints every architecture within the budgets, the widest of each block and depth, or the named ones."""
    task = get_task(arguments.task, load_settings().data_root)
    bit_widths = parse_bit_widths(arguments.bit_widths or DEFAULT_BIT_WIDTHS)
    settings = resolve_recipe(task, arguments.recipe).retraining.quantizers
    given = (arguments.parameter_budget, arguments.model_bytes_budget, arguments.bit_operations_budget)
    found = enumerate_candidates(
        task,
        Budgets(*given, bit_widths[0], settings),
        arguments.blocks,
        arguments.depths,
        arguments.widths,
        arguments.architectures,
    )
    described = [describe(architecture, task, bit_widths, settings) for architecture in found]
    if arguments.json:
        print_json([asdict(each) for each in described])
        return 0
    ranking = str(bit_widths[0])
    print_table(
        f"Candidates for {task.name} within {budgets_in_words(*given, ranking)}",
        ["architecture", "parameters", "MACs", f"{ranking} bit operations", f"{ranking} bytes"],
        [
            [
                each.architecture,
                number(each.parameters),
                number(each.macs),
                number(each.bit_operations[ranking]),
                number(each.model_bytes[ranking]),
            ]
            for each in described
        ],
    )
    return 0
