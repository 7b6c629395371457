"""torchvision's ``mobilenet_v2`` weights under our layers' names, so that a network can start from trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from qcore.errors import InvalidInput
from qcore.layers import BatchNorm, Conv, Linear

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from qcore.architecture import Architecture
    from qcore.tasks import Task

_BLOCKS = 17
_CLASSIFIER = "classifier"
_COUNTER = "num_batches_tracked"
_REMEDY = "give the state dict of torchvision.models.mobilenet_v2 with the network's width_mult"


@dataclass(frozen=True)
class Renamed:
    """Tensors for some layers of a network, and the layers that have to start otherwise."""

    tensors: dict[str, Tensor]
    """By the keys of the network's state dict."""
    left_out: tuple[str, ...]
    """Layers with weights or statistics but without tensors: a classifier of other classes, a segmentation head."""


def from_torchvision(architecture: Architecture, task: Task, tensors: Mapping[str, Tensor]) -> Renamed:
    """A state dict of torchvision's ``mobilenet_v2``, renamed for a network with MobileNetV2's blocks.

    The classifier is left out where its classes are others than the task's, and what lies behind the blocks where the
    network has another head. Counters of batches may be missing, and start at 0.

    Raises:
        InvalidInput: for an architecture without MobileNetV2's blocks, for tensors of another network, missing ones,
            and shapes that differ.
    """
    own = {layer.name: layer for layer in architecture.layers(task) if isinstance(layer, Conv | Linear | BatchNorm)}
    if not own.keys() >= set(_backbone_names().values()):
        problem = "has no weights in torchvision's form: ResNets here are pre-activation or for small images"
        raise InvalidInput("architecture", architecture.name, problem, "use a network with MobileNetV2's blocks")
    names = _backbone_names() | {"features.18.0": "last_conv", "features.18.1": "last_bn", "classifier.1": _CLASSIFIER}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        source, _, part = key.rpartition(".")
        if source not in names:
            raise InvalidInput("tensors", key, "is no tensor of torchvision's mobilenet_v2", _REMEDY)
        parts.setdefault(source, {})[part] = tensor
    renamed: dict[str, Tensor] = {}
    for source, name in names.items():
        layer = own.get(name)
        found = parts.get(source, {})
        if layer is None or (name == _CLASSIFIER and _has_other_outputs(layer, found)):
            continue
        shapes = _shapes(layer)
        for part in sorted(found.keys() | shapes.keys()):
            _check(f"{source}.{part}", found.get(part), shapes.get(part))
        renamed |= {f"{name}.{part}": tensor for part, tensor in found.items()}
        if isinstance(layer, BatchNorm):
            renamed.setdefault(f"{name}.{_COUNTER}", torch.zeros((), dtype=torch.int64))
    filled = {key.rpartition(".")[0] for key in renamed}
    return Renamed(renamed, tuple(name for name in own if name not in filled))


def _backbone_names() -> dict[str, str]:
    names = {"features.0.0": "stem_conv", "features.0.1": "stem_bn"}
    for number in range(1, _BLOCKS + 1):
        source, block = f"features.{number}.conv", f"block{number}"
        after_expansion = 0
        if number > 1:
            names |= {f"{source}.0.0": f"{block}_expand", f"{source}.0.1": f"{block}_bn1"}
            after_expansion = 1
        names |= {
            f"{source}.{after_expansion}.0": f"{block}_depthwise",
            f"{source}.{after_expansion}.1": f"{block}_bn2",
            f"{source}.{after_expansion + 1}": f"{block}_project",
            f"{source}.{after_expansion + 2}": f"{block}_bn3",
        }
    return names


def _has_other_outputs(layer: Conv | Linear | BatchNorm, found: Mapping[str, Tensor]) -> bool:
    return not isinstance(layer, Linear) or ("weight" in found and found["weight"].shape[0] != layer.shape[0])


def _shapes(layer: Conv | Linear | BatchNorm) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's tensors, as torch has them."""
    channels = layer.shape[0]
    match layer:
        case Conv():
            return {"weight": (channels, layer.in_channels // layer.groups, layer.kernel_size, layer.kernel_size)}
        case Linear():
            return {"weight": (channels, layer.in_features), "bias": (channels,)}
        case BatchNorm():
            per_channel = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
            return {**per_channel, _COUNTER: ()}


def _check(key: str, tensor: Tensor | None, shape: tuple[int, ...] | None) -> None:
    if shape is None:
        raise InvalidInput("tensors", key, "is no tensor of torchvision's mobilenet_v2", _REMEDY)
    if tensor is None:
        if not key.endswith(_COUNTER):
            raise InvalidInput("tensors", key, "is missing", _REMEDY)
    elif tuple(tensor.shape) != shape:
        raise InvalidInput("tensors", key, f"has shape {tuple(tensor.shape)}, not {shape}", _REMEDY)
