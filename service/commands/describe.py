"""``quantrank describe``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import Architecture, describe, get_task
from searcher.named import DEFAULT_BIT_WIDTHS, parse_bit_widths, resolve_recipe
from service.output import number, print_json, print_table
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Prints an architecture's costs on a task."""
    bit_widths = parse_bit_widths(arguments.bit_widths or DEFAULT_BIT_WIDTHS)
    task = get_task(arguments.task, load_settings().data_root)
    settings = resolve_recipe(task, arguments.recipe).retraining.quantizers
    found = describe(Architecture.parse(arguments.architecture), task, bit_widths, settings)
    if arguments.json:
        print_json(asdict(found))
        return 0
    print_table(
        f"{found.architecture} on {arguments.task}",
        ["", "value"],
        [
            ["parameters", number(found.parameters)],
            ["state values (with BN statistics)", number(found.state_values)],
            ["MACs", number(found.macs)],
            *[[f"bit operations, {bits}", number(count)] for bits, count in found.bit_operations.items()],
            *[[f"model bytes, {bits}", number(count)] for bits, count in found.model_bytes.items()],
        ],
    )
    return 0
