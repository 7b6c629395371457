"""What a network's outputs are judged by: the loss it is trained with and its task's metric, in percent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qcore.data import evaluation_batches
from qcore.host_reads import read
from qcore.tasks.task import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable

    from qcore.data import AnySplit, Data


def cross_entropy(logits: Tensor, labels: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats over all labels that are not IGNORED.

    Args:
        logits: (N, classes) or (N, classes, height, width).
        labels: int64 of shape (N,) or (N, height, width).
        counted: of part of a batch, how many labels the whole batch has that are not IGNORED: the sum is divided by
            that, so that the parts' losses add up to the batch's.
    """
    if logits.ndim > 2:  # as one long list of pixels: torch's own loss over images has no deterministic CUDA kernel
        logits, labels = logits.movedim(1, -1).flatten(0, -2), labels.flatten()
    if counted is None:
        return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED)
    return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / counted


@torch.no_grad()
def measure(network: nn.Module, data: Data, split: AnySplit, before_batch: Callable[[], None] = lambda: None) -> float:
    """A task's metric of a network, in evaluation mode, on a split: percent; the device is read once, at the end.

    ``before_batch`` is called before every batch; it may raise to give up.
    """
    network.eval()
    counts: Tensor | None = None
    for x, labels in evaluation_batches(data, split):
        before_batch()
        logits = network(x)
        batch = _confusion(logits, labels) if data.metric == "mIOU" else (logits.argmax(1) == labels).sum()
        counts = batch if counts is None else counts + batch
    assert counts is not None, "an empty split has no metric"
    return mean_iou(counts) if data.metric == "mIOU" else 100 * read(counts, "an accuracy") / len(split)


def mean_iou(confusion: Tensor) -> float:
    """Mean intersection over union, in percent, of a confusion matrix (true classes, predicted classes).

    A class that is nowhere, neither in truth nor in prediction, is left out of the mean.

    >>> mean_iou(torch.tensor([[6, 2, 0], [0, 4, 0], [0, 0, 0]]))  # 6 of 8, and 4 of 6
    70.83333333333333
    """
    intersection = confusion.diag().double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return 100 * read((intersection / union).nanmean(), "an accuracy")


def _confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """Pixel counts (classes, classes) of logits (N, classes, ...) against labels (N, ...)."""
    classes = logits.shape[1]
    # Ignored pixels are counted in a cell of their own: leaving them out would make the host wait for their number.
    cells = torch.where(labels == IGNORED, classes**2, labels * classes + logits.argmax(1)).flatten()
    counts = torch.zeros(classes**2 + 1, dtype=torch.int64, device=logits.device)
    return counts.index_add_(0, cells, torch.ones_like(cells))[:-1].reshape(classes, classes)
