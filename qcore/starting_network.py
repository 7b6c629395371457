"""The float network that a recipe starts from instead of a random one: a safetensors file below the data root."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput
from qcore.files import leads_below

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qcore.architecture import Architecture
    from qcore.recipe import Checkpoint, Recipe
    from qcore.tasks import Task

_FIELD = "recipe.float_part.checkpoint"
_REMEDY = (
    "put a safetensors file there, with this project's names or torchvision's; a state dict is made one by "
    "safetensors.torch.save_file(model.state_dict(), path)"
)


def resolve_checkpoint(recipe: Recipe, data_root: Path) -> Recipe:
    """The recipe with its checkpoint's hash filled in, so that it says which network it starts from.

    Raises:
        InvalidInput: for a file that is not there, lies outside the data root, or is not the one the hash names.
    """
    checkpoint = recipe.float_part.checkpoint
    if checkpoint is None:
        return recipe
    digest = _digest(checkpoint, data_root)
    named = checkpoint.model_copy(update={"sha256": digest})
    return recipe.model_copy(update={"float_part": recipe.float_part.model_copy(update={"checkpoint": named})})


def load_starting_network(
    architecture: Architecture, task: Task, checkpoint: Checkpoint, data_root: Path
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our layers' names.

    Layers may be missing only from torchvision's, and only where the network is trained further.

    Raises:
        InvalidInput: for a file that is not there or changed, for tensors of another network or that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from qcore.network import Network
    from qcore.torchvision_names import from_torchvision

    _digest(checkpoint, data_root)
    try:
        tensors = load_file(data_root / checkpoint.path)
    except SafetensorError as error:
        raise InvalidInput(f"{_FIELD}.path", checkpoint.path, f"is no safetensors file ({error})", _REMEDY) from None
    expected = {name: tensor.shape for name, tensor in Network(architecture.layers(task)).state_dict().items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            problem = f"holds values in {name} that are not finite"
            raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, "give a network that did not diverge")
    if not tensors.keys() & expected.keys():
        renamed = from_torchvision(architecture, task, tensors)
        if renamed.left_out and not checkpoint.fine_tune:
            problem = f"leaves {', '.join(renamed.left_out)} as random as they start"
            remedy = "set it to true, so that the float schedule trains them"
            raise InvalidInput(f"{_FIELD}.fine_tune", checkpoint.fine_tune, problem, remedy)
        return renamed.tensors
    for name in sorted(expected.keys() | tensors.keys()):
        found, wanted = tensors.get(name), expected.get(name)
        if found is None or wanted is None or found.shape != wanted:
            has = "lacks it" if found is None else f"has it in shape {tuple(found.shape)}"
            needs = "has none" if wanted is None else f"has it in shape {tuple(wanted)}"
            problem = (
                f"is no network {architecture.name} of {task.name}: of {name}, the file {has}, the network {needs}"
            )
            raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, "give a network of this architecture")
    return tensors


def _digest(checkpoint: Checkpoint, data_root: Path) -> str:
    """The file's SHA-256, which has to be the one the checkpoint names, if it names one."""
    path = data_root / checkpoint.path
    if not leads_below(path, data_root):
        raise InvalidInput(
            f"{_FIELD}.path", checkpoint.path, "leads to no place below the data root", "give a path below it"
        )
    if path.suffix != ".safetensors":
        problem = "is no .safetensors file; others, such as pickles (.pth), can run code when read, and are not"
        raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, _REMEDY)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem = f"cannot be read below {data_root} ({error.strerror})"
        raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, _REMEDY) from None
    if checkpoint.sha256 not in (None, digest):
        problem = f"is not the hash of {checkpoint.path}, which is {digest}"
        raise InvalidInput(f"{_FIELD}.sha256", checkpoint.sha256, problem, "use the file it names, or leave it out")
    return digest
