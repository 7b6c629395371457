"""``cifar10``, ``cifar100``: Krizhevsky's 32x32 color images in their binary form: the other ones are pickles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from qcore.errors import DataMissing
from qcore.files import read_regular
from qcore.recipe import PAPER_CIFAR10, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import CONVOLUTIONAL, Examples, Task

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_PIXELS = (3, 32, 32)
"""Of an image: red, green and blue, line by line."""
_PIXEL_BYTES = 3 * 32 * 32
_MOST_FILE_BYTES = 2**28
"""CIFAR-100's training images, the largest file, have 154 MB."""


@dataclass(frozen=True)
class Published:
    """The files of one of the two data sets. A record is one byte for each kind of label, and the pixels."""

    task: str
    archive: str
    folder: str
    label_bytes: int
    """The last is the label."""
    train: dict[str, str]
    """Files' MD5 by their names."""
    test: dict[str, str]


CIFAR10 = Published(
    "cifar10",
    "cifar-10-binary.tar.gz",
    "cifar-10-batches-bin",
    label_bytes=1,
    train={
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    },
    test={"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"},
)
CIFAR100 = Published(
    "cifar100",
    "cifar-100-binary.tar.gz",
    "cifar-100-binary",
    label_bytes=2,  # the coarse label, and the fine one
    train={"train.bin": "6172c7755cfe09b2fe270c85cebc1b15"},
    test={"test.bin": "4499cfba6c016c1be1438163640a0898"},
)


def check(published: Published, data_root: Path) -> None:
    """Raises DataMissing where a file of the archive is not there; ``load`` compares checksums."""
    folder = data_root / published.folder
    missing = [name for name in (*published.train, *published.test) if not (folder / name).is_file()]
    if missing:
        raise _data_missing(published, data_root, f"lacks {', '.join(missing)} in {folder}")


def load(published: Published, data_root: Path) -> Examples:
    """All images, (N, 3, 32, 32); of CIFAR-100 with the fine labels.

    Raises:
        DataMissing: when a file is not there or not the published one.
    """
    check(published, data_root)
    return Examples(*_read(published, data_root, published.train), *_read(published, data_root, published.test))


def _read(
    published: Published, data_root: Path, files: dict[str, str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    import numpy as np

    contents = []
    for name, md5 in files.items():
        try:
            content = read_regular(data_root / published.folder / name, _MOST_FILE_BYTES)
        except OSError as error:
            problem = f"has unusable files in {data_root / published.folder} ({name}: {error.strerror})"
            raise _data_missing(published, data_root, problem) from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            problem = f"has damaged files in {data_root / published.folder} ({name} has MD5 {found}, not {md5})"
            raise _data_missing(published, data_root, problem)
        contents.append(content)
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, published.label_bytes + _PIXEL_BYTES)
    images = np.ascontiguousarray(records[:, published.label_bytes :]).reshape(-1, *_PIXELS)
    return images, records[:, published.label_bytes - 1].astype(np.int64)


def _data_missing(published: Published, data_root: Path, problem: str) -> DataMissing:
    source = f"https://www.cs.toronto.edu/~kriz/{published.archive}"
    return DataMissing(
        "task",
        published.task,
        problem,
        f"unpack the binary version there, e.g. by `curl -L {source} | tar -xz -C {data_root}`",
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
