"""``digits``: scikit-learn's 8x8 handwritten digits. Needs no files: the images come with the library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.recipe import FloatRecipe, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import CONVOLUTIONAL, Examples, Task, nothing_to_check

if TYPE_CHECKING:
    from pathlib import Path

TEST_EVERY = 5
_GRAY_LEVELS = 16


def load(_data_root: Path) -> Examples:
    """The library states no split; every fifth image is a test image, so both splits have every writer."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / _GRAY_LEVELS)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    test = np.arange(len(labels)) % TEST_EVERY == TEST_EVERY - 1
    return Examples(images[~test], labels[~test], images[test], labels[test])


def _recipe(name: str, float_epochs: int, retraining_epochs: int) -> Recipe:
    return Recipe(
        name=name,
        float_part=FloatRecipe(
            schedule=Schedule(epochs=float_epochs, learning_rate=0.1, warmup_epochs=1, weight_decay=5e-4),
            batch_size=64,
            validation_share=0.2,
        ),
        retraining=RetrainingRecipe(schedule=Schedule(epochs=retraining_epochs, learning_rate=0.02, warmup_epochs=1)),
    )


TASK = Task(
    name="digits",
    version="1",
    title="scikit-learn's handwritten digits, 8x8",
    input_shape=(1, 8, 8),
    classes=10,
    input_bits=8,
    mean=(0.305,),
    std=(0.376,),
    blocks=CONVOLUTIONAL,
    train_examples=1438,
    test_examples=359,
    recipes=(_recipe("short", 20, 12), _recipe("paper", 200, 100)),
    load=load,
    check=nothing_to_check,
)
