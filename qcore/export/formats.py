"""The formats a trained network is shipped in, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.errors import InvalidInput

if TYPE_CHECKING:
    from qcore.export.network_file import TrainedNetwork

FORMATS = {"onnx": ".onnx", "packed": ".packed", "safetensors": ".safetensors"}
"""Names and file endings."""


def export(trained: TrainedNetwork, file_format: str, *, with_codes: bool = False) -> bytes:
    """A network as the content of a file of that format; ``with_codes`` adds activation codes to ONNX's outputs.

    Raises:
        InvalidInput: for an unknown format, codes asked of another than ONNX, or a state that is not the network's.
    """
    from qcore.export.deployed import deploy

    if file_format not in FORMATS:
        raise InvalidInput("format", file_format, "is not a format", f"use one of {', '.join(FORMATS)}")
    if with_codes and file_format != "onnx":
        raise InvalidInput("with_codes", file_format, "has no outputs", "use --format onnx, or leave it out")
    network = deploy(trained.description, trained.state)  # refuses a state that is not the network's in every format
    if file_format == "onnx":
        from qcore.export.onnx import to_onnx

        return to_onnx(network, with_codes=with_codes)
    if file_format == "packed":
        from qcore.export.packed import pack

        return pack(network)
    from qcore.export.network_file import to_safetensors

    return to_safetensors(trained.description, trained.state)
