"""The trained network that a command names: by a stored evaluation's number, or by a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qcore import BitWidths, InvalidInput
from qcore.export import read_network_file
from searcher.database import described
from searcher.exports import stage_to_export, trained_network
from searcher.schema import require_current
from service.settings import load_settings

if TYPE_CHECKING:
    from qcore.export import TrainedNetwork


def find_trained_network(evaluation: str, bit_widths_name: str | None, stage_key: str | None) -> TrainedNetwork:
    """The network of an evaluation, or of a file that ``evaluate --save`` or ``export`` wrote.

    Raises:
        InvalidInput: when there is none, or not one of those bit widths or that stage.
    """
    bit_widths = None if bit_widths_name is None else BitWidths.parse(bit_widths_name)
    if evaluation.isascii() and evaluation.isdigit():
        # 18 digits are more than any number has, and no database refuses them.
        return _stored(int(evaluation[:18]), bit_widths, stage_key)
    return _from_file(evaluation, bit_widths, stage_key)


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
    return trained_network(evaluation, stage, settings.open_artifacts())


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
