"""The safetensors format: a network's state as training has it, with a description that it can be rebuilt from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from qcore.errors import InvalidInput
from qcore.export.description import NetworkDescription
from qcore.files import read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qcore.network import Network

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TrainedNetwork:
    """A network as training left it: the keys of ``state`` are those of ``qcore.Network``'s state dict."""

    description: NetworkDescription
    state: dict[str, npt.NDArray[Any]]


def to_safetensors(description: NetworkDescription, state: Mapping[str, npt.ArrayLike]) -> bytes:
    """A network as the content of a safetensors file; values of the state are arrays or CPU tensors."""
    metadata = {"format": "network", "version": FORMAT_VERSION, **description.to_json()}
    arrays = {name: np.asarray(values, order="C") for name, values in state.items()}
    return save(arrays, {"quantrank": json.dumps(metadata)})


def read_state(content: bytes, name: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """The arrays of a safetensors file that quantrank wrote, and what it says of them.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        InvalidInput: naming the file, when it is none.
    """
    try:
        state, metadata = load(content), read_metadata(content)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidInput("file", name, "is no whole safetensors file of quantrank", _REMEDY) from None
    if not isinstance(metadata, dict):
        raise InvalidInput("file", name, "is no safetensors file of quantrank", _REMEDY)
    return state, metadata


def read_network_file(path: Path) -> TrainedNetwork:
    """Reads a network file; needs no torch.

    Raises:
        InvalidInput: naming the file, when it cannot be read, is none, or says what cannot be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput("file", str(path), f"cannot be read ({error.strerror})", _REMEDY) from None
    state, metadata = read_state(content, str(path))
    if not describes_network(metadata):
        raise InvalidInput("file", str(path), "does not say which network its tensors are", _REMEDY)
    return described_network(state, metadata, str(path))


def described_network(state: dict[str, npt.NDArray[Any]], metadata: dict[str, Any], name: str) -> TrainedNetwork:
    """The network that ``read_state`` found in a network file.

    Raises:
        InvalidInput: naming the file, when its metadata say what cannot be.
    """
    if metadata["version"] != FORMAT_VERSION:
        problem = f"has version {metadata['version']}, this release reads {FORMAT_VERSION}"
        raise InvalidInput("file", name, problem, _REMEDY)
    try:
        return TrainedNetwork(NetworkDescription.from_json(metadata), state)
    except ValueError as error:
        raise InvalidInput("file", name, f"does not describe a network: {error}", _REMEDY) from None


def describes_network(metadata: dict[str, Any]) -> bool:
    """Whether a file's metadata are those of a network file, and not of a bare state."""
    return metadata.get("format") == "network" and "version" in metadata


def load_network(path: str | Path) -> Network:
    """The torch network of a network file, on the CPU, in evaluation mode.

    It maps normalized inputs (N, channels, height, width) to logits.

    Raises:
        InvalidInput: naming the file, when it cannot be read, is none, or its state is not its network's.
    """
    try:
        return to_network(read_network_file(Path(path)))
    except (RuntimeError, TypeError) as error:
        problem = f"does not hold its network's state: {' '.join(str(error).split())[:200]}"
        raise InvalidInput("file", str(path), problem, _REMEDY) from None


def to_network(trained: TrainedNetwork) -> Network:
    """The torch network, in evaluation mode.

    Raises:
        RuntimeError, TypeError: as torch does for a state that is not the described network's.
    """
    import torch

    from qcore.network import Network

    description = trained.description
    network = Network(description.layers, description.bit_widths, description.quantizers)
    network.load_state_dict({name: torch.from_numpy(values) for name, values in trained.state.items()})
    return network.eval()


_REMEDY = "name a file that `quantrank export --format safetensors` or `quantrank evaluate --save` wrote"
