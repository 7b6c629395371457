"""``cifar10``, ``cifar100``: Krizhevsky's 32x32 color images, read by torchvision, which checks checksums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from qcore.errors import DataMissing
from qcore.recipe import PAPER_CIFAR10, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import CONVOLUTIONAL, Examples, Task

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class _Published:
    """The files of one of the two data sets."""

    task: str
    loader: str
    """torchvision's class."""
    archive: str
    folder: str
    files: tuple[str, ...]


CIFAR10 = _Published(
    "cifar10",
    "CIFAR10",
    "cifar-10-python.tar.gz",
    "cifar-10-batches-py",
    (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch", "batches.meta"),
)
CIFAR100 = _Published("cifar100", "CIFAR100", "cifar-100-python.tar.gz", "cifar-100-python", ("train", "test", "meta"))


def check(published: _Published, data_root: Path) -> None:
    """Raises DataMissing where a file of the archive is not there; ``load`` compares checksums."""
    folder = data_root / published.folder
    missing = [name for name in published.files if not (folder / name).is_file()]
    if missing:
        raise _data_missing(published, data_root, f"lacks {', '.join(missing)} in {folder}")


def load(published: _Published, data_root: Path) -> Examples:
    """All images, (N, 3, 32, 32); of CIFAR-100 with the fine labels.

    Raises:
        DataMissing: when a file is not there or not the published one.
    """
    check(published, data_root)

    import numpy as np
    from torchvision import datasets

    loader = getattr(datasets, published.loader)
    try:
        train, test = (loader(str(data_root), train=split) for split in (True, False))
    except RuntimeError as error:  # what torchvision raises where a checksum differs
        problem = f"has damaged files in {data_root / published.folder} ({error})"
        raise _data_missing(published, data_root, problem) from error
    return Examples(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        np.asarray(train.targets, dtype=np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        np.asarray(test.targets, dtype=np.int64),
    )


def _data_missing(published: _Published, data_root: Path, problem: str) -> DataMissing:
    return DataMissing(
        "task",
        published.task,
        problem,
        f"unpack {published.archive} from https://www.cs.toronto.edu/~kriz/cifar.html there, or run "
        f"python -c \"import torchvision; torchvision.datasets.{published.loader}('{data_root}', download=True)\"",
    )


SHORT = Recipe(
    name="short",
    float_part=PAPER_CIFAR10.float_part.model_copy(
        update={
            "schedule": Schedule(epochs=30, warmup_epochs=2, weight_decay=5e-4),
            "validation_share": 0.1,
        }
    ),
    retraining=RetrainingRecipe(schedule=Schedule(epochs=15, learning_rate=0.02, warmup_epochs=1)),
)

TASK_10 = Task(
    name="cifar10",
    version="1",
    title="CIFAR-10, 32x32",
    input_shape=(3, 32, 32),
    classes=10,
    input_bits=8,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    blocks=CONVOLUTIONAL,
    train_examples=50_000,
    test_examples=10_000,
    recipes=(SHORT, PAPER_CIFAR10),
    load=partial(load, CIFAR10),
    check=partial(check, CIFAR10),
)

# The paper trains no network on CIFAR-100; its recipe here is the CIFAR-10 one.
TASK_100 = replace(
    TASK_10,
    name="cifar100",
    title="CIFAR-100, 32x32, the 100 fine classes",
    classes=100,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    load=partial(load, CIFAR100),
    check=partial(check, CIFAR100),
)
