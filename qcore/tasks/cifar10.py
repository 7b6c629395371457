"""``cifar10``: Krizhevsky's 32x32 color images, read by torchvision's loader, which checks the files' checksums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.errors import DataMissing
from qcore.recipe import PAPER_CIFAR10, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import CONVOLUTIONAL, Examples, Task

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "cifar-10-batches-py"
FILES = (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch", "batches.meta")


def check(data_root: Path) -> None:
    missing = [name for name in FILES if not (data_root / FOLDER / name).is_file()]
    if missing:
        raise _data_missing(data_root, f"lacks {', '.join(missing)} in {data_root / FOLDER}")


def load(data_root: Path) -> Examples:
    check(data_root)

    import numpy as np
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(str(data_root), train=split) for split in (True, False))
    except RuntimeError as error:  # what torchvision raises where a checksum differs
        raise _data_missing(data_root, f"has damaged files in {data_root / FOLDER} ({error})") from error
    return Examples(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        np.asarray(train.targets, dtype=np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        np.asarray(test.targets, dtype=np.int64),
    )


def _data_missing(data_root: Path, problem: str) -> DataMissing:
    return DataMissing(
        "task",
        "cifar10",
        problem,
        "unpack cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html there, or run "
        f"python -c \"import torchvision; torchvision.datasets.CIFAR10('{data_root}', download=True)\"",
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

TASK = Task(
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
    load=load,
    check=check,
)
