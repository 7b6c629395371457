"""``quantrank export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qcore import InvalidInput
from qcore.export import FORMATS, export
from service.files import write_output
from service.output import number, print_json
from service.trained_networks import find_trained_network

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Writes a trained network as a file to ship."""
    trained = find_trained_network(arguments.evaluation, arguments.bit_widths, arguments.stage)
    description = trained.description
    content = export(trained, arguments.format, with_codes=arguments.with_codes)
    output = Path(arguments.output or f"{description.label}{FORMATS[arguments.format]}")
    if output.resolve() == Path(arguments.evaluation).resolve():
        raise InvalidInput("output", str(output), "is the trained network itself", "give another --output")
    write_output(output, content)
    if arguments.json:
        print_json(
            {
                "output": str(output),
                "format": arguments.format,
                "architecture": description.architecture,
                "task": description.task,
                "bit_widths": str(description.bit_widths),
                "stage": description.stage,
                "bytes": len(content),
            }
        )
    else:
        told = f"{description.architecture} on {description.task} at {description.bit_widths}"
        print(f"{output}: {told}, {number(len(content))} bytes")
    return 0
