"""``fashion-mnist-14``: Fashion-MNIST mean-pooled to 14x14: real images in CPU minutes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from qcore.tasks import fashion_mnist
from qcore.tasks.task import Examples

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

NAME = "fashion-mnist-14"
TRAIN_EXAMPLES = 20_000


def load(data_root: Path) -> Examples:
    """The first 20,000 training images and all 10,000 test images."""
    whole = fashion_mnist.load(NAME, data_root)
    return Examples(
        mean_pooled(whole.train_inputs[:TRAIN_EXAMPLES]),
        whole.train_labels[:TRAIN_EXAMPLES],
        mean_pooled(whole.test_inputs),
        whole.test_labels,
    )


def mean_pooled(images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Each 2x2 square's mean, rounded half-even to uint8; (N, C, H, W) to (N, C, H/2, W/2)."""
    import numpy as np

    count, channels, height, width = images.shape
    squares = images.reshape(count, channels, height // 2, 2, width // 2, 2)
    pooled: npt.NDArray[np.uint8] = np.rint(squares.mean(axis=(3, 5))).astype(np.uint8)
    return pooled


TASK = replace(
    fashion_mnist.TASK,
    name=NAME,
    title="Fashion-MNIST pooled to 14x14, 20,000 training images",
    input_shape=(1, 14, 14),
    mean=(0.2860,),
    std=(0.3300,),
    train_examples=TRAIN_EXAMPLES,
    recipes=fashion_mnist.recipes(crop_padding=1),
    load=load,
    check=partial(fashion_mnist.check, NAME),
)
