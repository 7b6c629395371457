"""``quantrank export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qcore import BitWidths, InvalidInput
from qcore.export import FORMATS, export, read_network_file
from searcher.database import described
from searcher.exports import stage_to_export, trained_network
from searcher.schema import require_current
from service.files import write_output
from service.output import number, print_json
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

    from qcore.export import TrainedNetwork


def run(arguments: Namespace) -> int:
    """Writes a trained network as a file to ship."""
    bit_widths = None if arguments.bit_widths is None else BitWidths.parse(arguments.bit_widths)
    if arguments.evaluation.isascii() and arguments.evaluation.isdigit():
        # 18 digits are more than any number has, and no database refuses them.
        trained = _stored(int(arguments.evaluation[:18]), bit_widths, arguments.stage)
    else:
        trained = _from_file(arguments.evaluation, bit_widths, arguments.stage)
    description = trained.description
    content = export(trained, arguments.format, with_codes=arguments.with_codes)
    output = Path(arguments.output or f"{description.label}{FORMATS[arguments.format]}")
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


def _stored(evaluation_id: int, bit_widths: BitWidths | None, stage_key: str | None) -> TrainedNetwork:
    """The network of a stored evaluation, read where the database and the artifacts are."""
    settings = load_settings()
    if not settings.has_database:
        raise InvalidInput(
            "evaluation",
            evaluation_id,
            f"does not exist: nothing was searched in {settings.home}",
            "set QUANTRANK_HOME, or QUANTRANK_DATABASE_URL and _ARTIFACTS, to those of the server",
        )
    database = settings.open_database()
    require_current(database)
    try:
        with database.read() as session:
            evaluation, stage = stage_to_export(session, evaluation_id, bit_widths, stage_key)
    except InvalidInput as error:
        problem = f"{error.problem} (in {described(database.url)})"
        raise InvalidInput(error.field, error.value, problem, error.remedy) from None
    return trained_network(evaluation, stage, settings.artifact_store)


def _from_file(name: str, bit_widths: BitWidths | None, stage_key: str | None) -> TrainedNetwork:
    path = Path(name)
    if path.suffix != ".safetensors":
        remedy = "give an evaluation's number, or a .safetensors file"
        raise InvalidInput("evaluation", name, "is neither a number nor a network file", remedy)
    trained = read_network_file(path)
    held = trained.description
    if bit_widths is not None and bit_widths != held.bit_widths:
        remedy = f"leave --bit-widths out: the file holds {held.bit_widths}"
        raise InvalidInput("bit_widths", str(bit_widths), f"is not what {name} holds", remedy)
    if stage_key is not None and not (held.stage or "").startswith(stage_key):
        raise InvalidInput("stage", stage_key, f"is not what {name} holds", "leave --stage out")
    return trained
