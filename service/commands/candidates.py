"""``quantrank candidates``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import InvalidInput, describe, get_task
from searcher.request import DEFAULT_BIT_WIDTHS, MOST_PARAMETERS, parse_bit_widths
from searcher.space import enumerate_candidates
from service.output import number, print_json, print_table
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Prints every architecture within the budget, the widest of each block and depth, or the named ones."""
    budget = arguments.parameter_budget
    if not 1 <= budget <= MOST_PARAMETERS:
        raise InvalidInput("parameter_budget", budget, "is out of range", f"use 1 to {MOST_PARAMETERS}")
    task = get_task(arguments.task, load_settings().data_root)
    bit_widths = parse_bit_widths(arguments.bit_widths or DEFAULT_BIT_WIDTHS)
    found = enumerate_candidates(
        task, budget, arguments.blocks, arguments.depths, arguments.widths, arguments.architectures
    )
    described = [describe(architecture, task, bit_widths) for architecture in found]
    if arguments.json:
        print_json([asdict(each) for each in described])
        return 0
    ranking = str(bit_widths[0])
    print_table(
        f"Candidates for {task.name} within {number(budget)} parameters",
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
