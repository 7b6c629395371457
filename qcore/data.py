"""Examples on the training device: splits, batches, augmentation. Images stay uint8 until a batch is made of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qcore.recipe import FloatRecipe
    from qcore.tasks import Task

_EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Split:
    """Inputs (N, channels, height, width), as stored, and labels (N,)."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A task's splits on a device; ``validation`` is empty if the recipe holds nothing out."""

    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor

    def normalized(self, inputs: Tensor) -> Tensor:
        """Stored inputs as the network reads them: images scaled to 0..1, then (x - mean) / std per channel."""
        x = inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs
        return (x - self.mean) / self.std


def load_data(task: Task, validation_share: float, data_root: Path, device: torch.device) -> Data:
    """Reads a task's data set and holds out a share of its training split, the same for every seed.

    Raises:
        DataMissing: as the task's loader does.
    """
    examples = task.load(data_root)
    inputs, labels = torch.from_numpy(examples.train_inputs), torch.from_numpy(examples.train_labels)
    order = torch.randperm(len(labels), generator=generator_for("validation split"))
    held_out = round(len(labels) * validation_share)
    # Sorted, so that memory is read in order.
    validation, train = order[:held_out].sort().values, order[held_out:].sort().values

    def split(inputs: Tensor, labels: Tensor) -> Split:
        return Split(inputs.to(device), labels.to(device))

    return Data(
        split(inputs[train], labels[train]),
        split(inputs[validation], labels[validation]),
        split(torch.from_numpy(examples.test_inputs), torch.from_numpy(examples.test_labels)),
        torch.tensor(task.mean, device=device).reshape(1, -1, 1, 1),
        torch.tensor(task.std, device=device).reshape(1, -1, 1, 1),
    )


def steps_per_epoch(data: Data, recipe: FloatRecipe) -> int:
    """Full batches in the training split; a last partial batch is left out, which changes from epoch to epoch."""
    return max(1, len(data.train) // recipe.batch_size)


def training_batches(data: Data, recipe: FloatRecipe, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled, augmented and normalized batches.

    Everything random is drawn from ``generator`` on the CPU, so an epoch is the same on every device.
    """
    train = data.train
    order = torch.randperm(len(train), generator=generator).to(train.labels.device)
    for index in range(steps_per_epoch(data, recipe)):
        chosen = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
        x = data.normalized(train.inputs[chosen])
        if recipe.flip:
            flipped = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(flipped.to(x.device)[:, None, None, None], x.flip(3), x)
        if recipe.crop_padding:
            x = _randomly_cropped(x, recipe.crop_padding, generator)
        yield x, train.labels[chosen]


def evaluation_batches(data: Data, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """A split in order, normalized."""
    for start in range(0, len(split), _EVALUATION_BATCH):
        part = slice(start, start + _EVALUATION_BATCH)
        yield data.normalized(split.inputs[part]), split.labels[part]


def _randomly_cropped(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    offsets = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator).to(x.device)
    rows = (offsets[0] + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (offsets[1] + torch.arange(width, device=x.device))[:, None, None, :]
    image = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[image, channel, rows, columns]


def generator_for(*labels: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of the labels: every use of randomness has a stream of its own."""
    digest = hashlib.sha256("/".join(map(str, labels)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
