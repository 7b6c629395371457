"""Training states and trained networks on disk, as safetensors: nothing here can run code when it is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from qcore.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes tensors and a JSON-able description; whole or not at all, whoever else writes or reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"quantrank": json.dumps(metadata)},
    )
    write_whole(path, content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What ``write_tensors`` wrote, or None if there is no such file or it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["quantrank"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  not a dict
    except (FileNotFoundError, SafetensorError, KeyError, json.JSONDecodeError):
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
