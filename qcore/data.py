"""Examples by split and batch: held out, shuffled, augmented. Images stay uint8 until a batch is made of them.

Small data sets lie on the training device whole (``Split``), large ones are read file by file (``FileSplit``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from qcore.devices import default_loader_processes
from qcore.streaming import FileSplit
from qcore.tasks.task import FileExamples, Files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qcore.recipe import FloatRecipe
    from qcore.tasks import Examples, Task

_EVALUATION_BATCH, _EVALUATION_VALUES = 1000, 2**23
"""Most examples, and most input values, that are evaluated at once."""
_PREPARED_VALUES = 2**20
"""Of inputs that are made ready for training at once, if a batch has no more."""


@dataclass(frozen=True)
class Split:
    """Inputs (N, channels, height, width), as stored, and labels (N,), on the training device."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def values_per_example(self) -> int:
        """channels x height x width."""
        return self.inputs.shape[1:].numel()

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs, as stored, and labels of the examples at ``order``, ``size`` at a time."""
        for chosen in torch.split(order.to(self.labels.device), size):
            yield self.inputs[chosen], self.labels[chosen]


AnySplit: TypeAlias = Split | FileSplit


@dataclass(frozen=True)
class Data:
    """A task's splits; ``validation`` is empty if the recipe holds nothing out."""

    train: AnySplit
    validation: AnySplit
    test: AnySplit
    mean: Tensor
    std: Tensor
    metric: Literal["accuracy", "mIOU"] = "accuracy"

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.mean.device

    def normalized(self, inputs: Tensor) -> Tensor:
        """Stored inputs as the network reads them: images scaled to 0..1, then (x - mean) / std per channel."""
        if inputs.dtype == torch.uint8:
            return inputs.float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std)
        return (inputs - self.mean) / self.std


def load_data(
    task: Task, validation_share: float, data_root: Path, device: torch.device, loader_processes: int | None = None
) -> Data:
    """Reads a task's data set and holds out a share of its training split, the same for every seed.

    A data set with a validation split of its own keeps its whole training split. ``loader_processes`` decode what does
    not fit memory; how many decides nothing but the time it takes.

    Raises:
        DataMissing: as the task's loader does.
    """
    examples = task.load(data_root)
    if isinstance(examples, FileExamples):
        processes = default_loader_processes(device.type) if loader_processes is None else loader_processes
        splits: tuple[AnySplit, AnySplit, AnySplit] = _file_splits(examples, validation_share, device, processes)
    else:
        splits = _splits(examples, validation_share, device)
    mean, std = (torch.tensor(values, device=device).reshape(1, -1, 1, 1) for values in (task.mean, task.std))
    return Data(*splits, mean, std, task.metric)


def _splits(examples: Examples, validation_share: float, device: torch.device) -> tuple[Split, Split, Split]:
    inputs, labels = torch.from_numpy(examples.train_inputs), torch.from_numpy(examples.train_labels)

    def split(inputs: Tensor, labels: Tensor) -> Split:
        return Split(inputs.to(device), labels.to(device))

    if examples.validation_inputs is None or examples.validation_labels is None:
        kept, held_out = _held_out(len(labels), validation_share)
        train, validation = split(inputs[kept], labels[kept]), split(inputs[held_out], labels[held_out])
    else:
        train = split(inputs, labels)
        validation = split(torch.from_numpy(examples.validation_inputs), torch.from_numpy(examples.validation_labels))
    return train, validation, split(torch.from_numpy(examples.test_inputs), torch.from_numpy(examples.test_labels))


def _file_splits(
    examples: FileExamples, validation_share: float, device: torch.device, processes: int
) -> tuple[FileSplit, FileSplit, FileSplit]:
    train, validation = examples.train, examples.validation
    if validation is None:
        kept, held_out = (order.numpy() for order in _held_out(len(train), validation_share))
        train, validation = (Files(train.names[chosen], train.targets[chosen]) for chosen in (kept, held_out))
    test = FileSplit(examples.test, examples.reader, device, processes)
    return replace(test, files=train), replace(test, files=validation), test


def _held_out(count: int, share: float) -> tuple[Tensor, Tensor]:
    """Which of the training examples are trained on and which are held out, each sorted: memory is read in order."""
    order = torch.randperm(count, generator=generator_for("validation split"))
    held_out = round(count * share)
    return order[held_out:].sort().values, order[:held_out].sort().values


def steps_per_epoch(data: Data, recipe: FloatRecipe, share: float = 1.0) -> int:
    """A share of the full batches in the training split; a last partial batch is left out, which changes from epoch to
    epoch.
    """
    return max(1, round(share * (len(data.train) // recipe.batch_size)))


def training_batches(
    data: Data, recipe: FloatRecipe, generator: torch.Generator, share: float = 1.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch, or a share of it, of shuffled, augmented and normalized batches.

    Everything random is drawn from ``generator`` on the CPU, so an epoch is the same on every device.
    """
    train, size = data.train, recipe.batch_size
    order = torch.randperm(len(train), generator=generator)[: steps_per_epoch(data, recipe, share) * size]
    if isinstance(train, Split):
        yield from _array_batches(data, train, order, recipe, generator)
        return
    if recipe.augmentation == "crop-flip":
        for inputs, labels in train.batches(order, size):
            yield _prepared(data, inputs, _Shift.drawn(recipe, len(inputs), generator)), labels
        return
    seed = int(torch.randint(2**62, (), generator=generator))
    for inputs, labels in train.augmented_batches(order, size, recipe, seed):
        yield data.normalized(inputs), labels


def _array_batches(
    data: Data, train: Split, order: Tensor, recipe: FloatRecipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of arrays on the device, several made at a time: small ones cost more to begin than to compute."""
    size = recipe.batch_size
    assert recipe.augmentation == "crop-flip", f"{recipe.augmentation} is for images in files"
    at_once = max(1, _PREPARED_VALUES // (size * train.values_per_example)) * size
    for chosen in torch.split(order, at_once):
        shift = _Shift.drawn(recipe, len(chosen), generator)
        here = chosen.to(train.labels.device)
        inputs, labels = train.inputs[here], train.labels[here]
        x = _prepared(data, inputs, shift)
        yield from zip(torch.split(x, size), torch.split(labels, size), strict=True)


def evaluation_batches(data: Data, split: AnySplit) -> Iterator[tuple[Tensor, Tensor]]:
    """A split in order, normalized."""
    size = min(_EVALUATION_BATCH, max(1, _EVALUATION_VALUES // split.values_per_example))
    for inputs, labels in split.batches(torch.arange(len(split)), size):
        yield data.normalized(inputs), labels


def _prepared(data: Data, inputs: Tensor, shift: _Shift | None) -> Tensor:
    """Stored inputs, varied and normalized; what a shift brings in from outside is 0, the mean color."""
    if shift is None:
        return data.normalized(inputs)
    moved, inside = shift.of(inputs)
    x = data.normalized(moved)
    return x if inside is None else x.mul_(inside)


@dataclass(frozen=True)
class _Shift:
    """How each of a number of images is flipped and shifted. Everything random about it was drawn on the CPU."""

    flipped: Tensor | None
    """(N,), whether left and right change places."""
    offsets: Tensor | None
    """(2, N), rows and columns from 0 to twice the padding."""
    padding: int

    @classmethod
    def drawn(cls, recipe: FloatRecipe, count: int, generator: torch.Generator) -> _Shift | None:
        """None where the recipe varies nothing. Batch by batch, however many are made at once."""
        padding, flipped, offsets = recipe.crop_padding, [], []
        for begun in range(0, count, recipe.batch_size):
            size = min(recipe.batch_size, count - begun)
            if recipe.flip:
                flipped.append(torch.rand(size, generator=generator) < 0.5)
            if padding:
                offsets.append(torch.randint(0, 2 * padding + 1, (2, size), generator=generator))
        if not (flipped or offsets):
            return None
        return cls(torch.cat(flipped) if flipped else None, torch.cat(offsets, 1) if offsets else None, padding)

    def of(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The varied images, and a mask (N, 1, height, width) of what lies inside, as floats; None where all does.

        Flips come first, then shifts, both as one gathering of bytes.
        """
        _, channels, height, width = inputs.shape
        device = inputs.device
        rows, columns = torch.arange(height, device=device)[None, :], torch.arange(width, device=device)[None, :]
        inside = None
        if self.offsets is not None:
            offsets = self.offsets.to(device) - self.padding
            rows, columns = rows + offsets[0, :, None], columns + offsets[1, :, None]
            row_inside, column_inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
            inside = (row_inside[:, :, None] & column_inside[:, None, :])[:, None].float()
            rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        if self.flipped is not None:
            columns = torch.where(self.flipped.to(device)[:, None], width - 1 - columns, columns)
        places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None].expand(-1, channels, -1)
        return inputs.flatten(2).gather(2, places).reshape_as(inputs), inside


def generator_for(*labels: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of the labels: every use of randomness has a stream of its own."""
    digest = hashlib.sha256("/".join(map(str, labels)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
