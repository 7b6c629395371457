"""The float network that a recipe starts from instead of a random one: a safetensors file below the data root."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from qcore.errors import InvalidInput
from qcore.files import leads_below, open_regular
from qcore.host_reads import read
from qcore.layers import tensor_shapes
from qcore.torchvision_names import torchvision_names

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qcore.architecture import Architecture
    from qcore.recipe import Checkpoint, Recipe
    from qcore.stages import Stage
    from qcore.tasks import Task
    from qcore.torchvision_names import Renaming

_FIELD = "recipe.float_part.checkpoint"
_OF_QUANTIZERS = (".step", ".clipping_value")
"""How the names of tensors end that only quantized networks have."""
_MOST_BYTES = 2**31
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


def starting_network(float_stage: Stage, data_root: Path) -> dict[str, Tensor] | None:
    """What a float stage starts from: its recipe's checkpoint, or None where it starts at random.

    Raises:
        InvalidInput: as ``load_starting_network`` does.
    """
    checkpoint = float_stage.recipe.float_part.checkpoint
    if checkpoint is None:
        return None
    return load_starting_network(float_stage.architecture, float_stage.task, checkpoint, data_root)


def load_starting_network(
    architecture: Architecture, task: Task, checkpoint: Checkpoint, data_root: Path
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our layers' names.

    Layers may be missing only from torchvision's, and only where the network is trained further.

    Raises:
        InvalidInput: as ``check_starting_network`` does, and for tensors that are not finite.
    """
    from safetensors.torch import load_file

    renaming = check_starting_network(architecture, task, checkpoint, data_root)
    tensors = load_file(data_root / checkpoint.path)
    for name, tensor in tensors.items():
        if not read(tensor.isfinite().all(), "a given network is finite"):
            problem = f"holds values in {name} that are not finite"
            raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, "give a network that did not diverge")
    return tensors if renaming is None else renaming.of(tensors)


def check_starting_network(
    architecture: Architecture, task: Task, checkpoint: Checkpoint, data_root: Path
) -> Renaming | None:
    """Reads which tensors a checkpoint has, but not their values; answers what they are called here, if not the same.

    Raises:
        InvalidInput: for a file that is not there or changed, or with tensors of another network or a quantized one.
    """
    shapes = _shapes(checkpoint, data_root)
    if any(name.endswith(_OF_QUANTIZERS) for name in shapes):
        remedy = "give the float network it was retrained from, which `quantrank evaluate --save` writes beside it"
        raise InvalidInput(f"{_FIELD}.path", checkpoint.path, "is a quantized network", remedy)
    expected = {
        f"{layer.name}.{part}": shape
        for layer in architecture.layers(task)
        for part, shape in tensor_shapes(layer).items()
    }
    if not shapes.keys() & expected.keys():
        renaming = torchvision_names(architecture, task, shapes)
        if renaming.left_out and not checkpoint.fine_tune:
            problem = f"leaves {', '.join(renaming.left_out)} as random as they start"
            remedy = "set it to true, so that the float schedule trains them"
            raise InvalidInput(f"{_FIELD}.fine_tune", checkpoint.fine_tune, problem, remedy)
        return renaming
    for name in sorted(expected.keys() | shapes.keys()):
        found, wanted = shapes.get(name), expected.get(name)
        if found is None or found != wanted:
            has = "lacks it" if found is None else f"has it in shape {found}"
            needs = "has none" if wanted is None else f"has it in shape {wanted}"
            problem = (
                f"is no network {architecture.name} of {task.name}: of {name}, the file {has}, the network {needs}"
            )
            raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, "give a network of this architecture")
    return None


def _shapes(checkpoint: Checkpoint, data_root: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    _digest(checkpoint, data_root)
    try:
        with safe_open(data_root / checkpoint.path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    except SafetensorError as error:
        raise InvalidInput(f"{_FIELD}.path", checkpoint.path, f"is no safetensors file ({error})", _REMEDY) from None


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
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MOST_BYTES:
                problem = f"has {size:,} bytes, more than the {_MOST_BYTES:,} that are read"
                raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, _REMEDY)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem = f"cannot be read below {data_root} ({error.strerror})"
        raise InvalidInput(f"{_FIELD}.path", checkpoint.path, problem, _REMEDY) from None
    if checkpoint.sha256 not in (None, digest):
        problem = f"is not the hash of {checkpoint.path}, which is {digest}"
        raise InvalidInput(f"{_FIELD}.sha256", checkpoint.sha256, problem, "use the file it names, or leave it out")
    return digest
