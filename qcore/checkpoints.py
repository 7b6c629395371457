"""Training states and trained networks as safetensors: nothing here can run code when it is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from qcore.files import read_metadata, write_whole
from qcore.host_reads import to_host

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Saved = tuple[dict[str, "Tensor"], dict[str, Any]]
"""Tensors by name, and a JSON-able description of them."""

_DIGEST_BYTES = hashlib.sha256().digest_size


class Checkpoint(Protocol):
    """A place for the training state of one stage, replaced every epoch."""

    def read(self) -> bytes | None:
        """What was written last; None if nothing was, or it cannot be read."""

    def write(self, content: bytes) -> None:
        """Replaces what was written before."""


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint in a file, whose folder is made if need be."""

    path: Path

    def read(self) -> bytes | None:
        """The file's content; None if there is no file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """Replaces the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, content)


def write_checkpoint(checkpoint: Checkpoint, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes a training state behind its SHA-256, by which a damaged one is known."""
    content = to_bytes(tensors, metadata)
    checkpoint.write(hashlib.sha256(content).digest() + content)


def read_checkpoint(checkpoint: Checkpoint) -> Saved | None:
    """What ``write_checkpoint`` wrote, or None if there is nothing, or not all of it, or it was changed."""
    sealed = checkpoint.read() or b""
    content = sealed[_DIGEST_BYTES:]
    return from_bytes(content) if hashlib.sha256(content).digest() == sealed[:_DIGEST_BYTES] else None


def to_bytes(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> bytes:
    """Tensors and a JSON-able description as the content of a safetensors file."""
    return save(
        {name: to_host(tensor, "a checkpoint").contiguous() for name, tensor in tensors.items()},
        {"quantrank": json.dumps(metadata)},
    )


def from_bytes(content: bytes) -> Saved | None:
    """What ``to_bytes`` made, or None if it is not that, or not all of it."""
    try:
        return load(content), read_metadata(content)
    except (SafetensorError, KeyError, json.JSONDecodeError):
        return None


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes tensors and a JSON-able description; whole or not at all, whoever else writes or reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_bytes(tensors, metadata))


def read_tensors(path: Path) -> Saved | None:
    """What ``write_tensors`` wrote, or None if there is no such file or it is not whole."""
    try:
        return from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None


_MODEL, _OPTIMIZER = "model/", "optimizer/"


def training_state(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that training goes on from, as named tensors."""
    tensors = {_MODEL + name: tensor for name, tensor in network.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}/{slot}": tensor for slot, tensor in slots.items() if tensor is not None}
    return tensors


def restore(tensors: dict[str, Tensor], network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts ``training_state`` back; the optimizer's settings are those it was made with."""
    network.load_state_dict({name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)})
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMIZER):
            index, slot = name.removeprefix(_OPTIMIZER).split("/")
            slots.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": slots})
    for parameter, of_parameter in optimizer.state.items():
        for slot, tensor in of_parameter.items():
            if tensor.shape == parameter.shape:  # in its layout: fused optimizers walk both from end to end
                of_parameter[slot] = torch.empty_like(parameter).copy_(tensor)
