"""Splits that stay on disk: decoded by loader processes, batch by batch, the same whatever the number of processes."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qcore.errors import InvalidInput
from qcore.images import IGNORED_PIXEL
from qcore.processes import end_with_parent
from qcore.tasks.task import IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from qcore.recipe import FloatRecipe
    from qcore.tasks.task import Files, Reader

_Arrays: TypeAlias = "tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]"


@dataclass(frozen=True)
class FileSplit:
    """Examples in files; batches of them come to a device."""

    files: Files
    reader: Reader
    device: torch.device
    loader_processes: int

    def __len__(self) -> int:
        return len(self.files)

    @property
    def values_per_example(self) -> int:
        """Channels x height x width of one input, by which evaluation batches are sized."""
        channels, height, width = self.reader.shape
        return channels * height * width

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs, as stored, and labels of the examples at ``order``, ``size`` at a time, as evaluation sees them."""
        return self._batches(_Decoding(self.files, self.reader), order, size)

    def augmented_batches(
        self, order: Tensor, size: int, recipe: FloatRecipe, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The same as training sees them; how each varies follows from the seed and its index alone."""
        return self._batches(_Decoding(self.files, self.reader, recipe, seed), order, size)

    def _batches(self, decoding: _Decoding, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            decoding,
            batch_size=None,
            sampler=[chosen.tolist() for chosen in torch.split(order, size)],
            num_workers=self.loader_processes,
            collate_fn=_as_it_is,
            worker_init_fn=partial(_start_loader, os.getpid()),
            generator=torch.Generator(),  # or torch's global one would be drawn from
        )
        for found in loader:
            if isinstance(found, InvalidInput):
                raise found
            inputs, targets = (self._moved(torch.from_numpy(each)) for each in found)
            if targets.dtype == torch.uint8:
                targets = targets.long().masked_fill_(targets == IGNORED_PIXEL, IGNORED)
            yield inputs, targets

    def _moved(self, batch: Tensor) -> Tensor:
        """The batch on the device; copied to a GPU while that computes, for which memory has to be pinned."""
        if self.device.type != "cuda":
            return batch.to(self.device)
        return batch.pin_memory().to(self.device, non_blocking=True)


@dataclass(frozen=True)
class _Decoding(Dataset["_Arrays | InvalidInput"]):
    """Maps a batch's indices to its arrays. NumPy's, which loader processes send through pipes: torch's would lie in
    /dev/shm, of which containers have little.
    """

    files: Files
    reader: Reader
    recipe: FloatRecipe | None = None
    seed: int = 0

    def __getitem__(self, indices: list[int]) -> _Arrays | InvalidInput:
        try:
            examples = [self._example(index) for index in indices]
        except InvalidInput as error:  # raised where it is met, torch would turn it into a text
            return error
        inputs, targets = zip(*examples, strict=True)
        return np.stack(inputs), np.stack(targets)

    def _example(self, index: int) -> _Arrays:
        name, target = bytes(self.files.names[index]), self.files.targets[index]
        if self.recipe is None:
            return self.reader.read(name, target)
        return self.reader.read_augmented(name, target, self.recipe, np.random.default_rng((self.seed, index)))


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_loader(parent: int, _process: int) -> None:
    """A terminal's Ctrl-C reaches every process; the one that trains decides what follows from it. If it is killed, its
    loaders end too: torch's own would wait for ever for somebody to take what they have decoded.
    """
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
