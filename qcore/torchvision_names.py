"""torchvision's ``mobilenet_v2`` weights under our layers' names, so that a network can start from trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput
from qcore.layers import BatchNorm, Conv, Linear, tensor_shapes

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
class Renaming:
    """Which tensors are those of some layers of a network, and the layers that have to start otherwise."""

    names: dict[str, str]
    """torchvision's name by the key of the network's state dict."""
    left_out: tuple[str, ...]
    """Layers with weights or statistics but without tensors: a classifier of other classes, a segmentation head."""

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by the network's names. Counters of batches may be missing, and start at 0."""
        import torch

        renamed = {own: tensors[name] for own, name in self.names.items() if name in tensors}
        counters = {own: torch.zeros((), dtype=torch.int64) for own in self.names if own.endswith(_COUNTER)}
        return counters | renamed


def torchvision_names(architecture: Architecture, task: Task, shapes: Mapping[str, tuple[int, ...]]) -> Renaming:
    """The names, in a state dict of torchvision's ``mobilenet_v2`` with tensors of these shapes, of what a network with
    MobileNetV2's blocks has.

    The classifier is left out where its classes are others than the task's, and what lies behind the blocks where the
    network has another head.

    Raises:
        InvalidInput: for an architecture without MobileNetV2's blocks, for tensors of another network, missing ones,
            and shapes that differ.
    """
    own = {layer.name: layer for layer in architecture.layers(task) if isinstance(layer, Conv | Linear | BatchNorm)}
    if not own.keys() >= set(_backbone_names().values()):
        problem = "has no weights in torchvision's form: ResNets here are pre-activation or for small images"
        raise InvalidInput("architecture", architecture.name, problem, "use a network with MobileNetV2's blocks")
    names = _backbone_names() | {"features.18.0": "last_conv", "features.18.1": "last_bn", "classifier.1": _CLASSIFIER}
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        source, _, part = key.rpartition(".")
        if source not in names:
            raise InvalidInput("tensors", key, "is no tensor of torchvision's mobilenet_v2", _REMEDY)
        parts.setdefault(source, {})[part] = tuple(shape)
    renamed: dict[str, str] = {}
    for source, name in names.items():
        layer = own.get(name)
        found = parts.get(source, {})
        if layer is None or (name == _CLASSIFIER and _has_other_outputs(layer, found)):
            continue
        wanted = tensor_shapes(layer)
        for part in sorted(found.keys() | wanted.keys()):
            _check(f"{source}.{part}", found.get(part), wanted.get(part))
        renamed |= {f"{name}.{part}": f"{source}.{part}" for part in wanted}
    filled = {key.rpartition(".")[0] for key in renamed}
    return Renaming(renamed, tuple(name for name in own if name not in filled))


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


def _has_other_outputs(layer: Conv | Linear | BatchNorm, found: Mapping[str, tuple[int, ...]]) -> bool:
    return not isinstance(layer, Linear) or ("weight" in found and found["weight"][0] != layer.shape[0])


def _check(key: str, found: tuple[int, ...] | None, wanted: tuple[int, ...] | None) -> None:
    if wanted is None:
        raise InvalidInput("tensors", key, "is no tensor of torchvision's mobilenet_v2", _REMEDY)
    if found is None:
        if not key.endswith(_COUNTER):
            raise InvalidInput("tensors", key, "is missing", _REMEDY)
    elif found != wanted:
        raise InvalidInput("tensors", key, f"has shape {found}, not {wanted}", _REMEDY)
