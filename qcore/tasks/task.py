"""What a task is, without its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from qcore.errors import InvalidInput
from qcore.recipe import differences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from qcore.layers import Shape
    from qcore.recipe import Augmentation, FloatRecipe, Recipe

CONVOLUTIONAL = ("basic", "preact", "depthwise", "mobilenetv2")
"""For images of at least 8x8 pixels."""
LARGE_IMAGES = ("imagenet-preact", "imagenet-bottleneck", "mobilenetv2")
"""For images of at least ``LARGE_IMAGE`` pixels a side."""
LARGE_IMAGE = 64
SEGMENTATION = ("deeplabv3-mobilenetv2",)
FULLY_CONNECTED = ("plain", "residual")
_DEFAULT = ("basic", "preact", "depthwise", *FULLY_CONNECTED)
"""Block kinds that answer the paper's question: which depth and width, at one number of parameters?"""

IGNORED = -100
"""The label of pixels that count neither in the loss nor in mIOU: padding, and what the annotators left open."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, per channel; what photographs are customarily normalized by."""


@dataclass(frozen=True)
class Examples:
    """The data of a task: inputs of shape (N, channels, height, width) as uint8, or float32 where they are no images.

    Labels are int64 of shape (N,). The training split includes what a recipe holds out for validation, unless the
    data set has a validation split of its own.
    """

    train_inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]
    validation_inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float32] | None = None
    validation_labels: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Files:
    """One split of a data set that is too large for memory. Names are as ``os.fsencode`` makes them."""

    names: npt.NDArray[np.bytes_]
    """(N,): images, relative to the reader's root."""
    targets: npt.NDArray[np.int64] | npt.NDArray[np.bytes_]
    """(N,): class indices, or the names of files with one class index per pixel."""

    def __len__(self) -> int:
        return len(self.names)


class Reader(Protocol):
    """Makes one example of one file: an image of ``shape`` as uint8, and an int64 class or a uint8 mask with 255 for
    what is ignored. Loader processes get a copy, so it can be pickled.

    Both methods raise DataMissing, naming the file, for one that cannot be read.
    """

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of every image that it makes."""

    def read(self, name: bytes, target: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
        """As networks are evaluated on it."""

    def read_augmented(
        self, name: bytes, target: Any, recipe: FloatRecipe, random: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
        """As networks are trained on it, varied as the recipe's augmentation says."""


@dataclass(frozen=True)
class FileExamples:
    """The data of a task that is read file by file, again in every epoch; splits as in ``Examples``."""

    reader: Reader
    train: Files
    test: Files
    validation: Files | None = None


@dataclass(frozen=True)
class Task:
    """A data set with its splits, input shape, classes, metric and version."""

    name: str
    version: str
    """Changes whenever the same name stands for other examples; part of every stage key."""
    title: str
    input_shape: Shape
    """(channels, height, width); points are (2, 1, 1)."""
    classes: int
    input_bits: int
    """Bits of one input value as stored: 8 for images, 32 for real numbers."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Inputs are scaled to 0..1 if they are images, then normalized by these, per channel."""
    blocks: tuple[str, ...]
    """Block kinds that suit the inputs."""
    train_examples: int
    test_examples: int
    recipes: tuple[Recipe, ...]
    """Named recipes, the default first."""
    load: Callable[[Path], Examples | FileExamples]
    """Reads the data set below a data root.

    Raises:
        DataMissing: says which files, where, and how to get them.
    """
    check: Callable[[Path], None]
    """Raises DataMissing as ``load`` would, from the file names alone."""
    metric: Literal["accuracy", "mIOU"] = "accuracy"
    """Percent of examples classified correctly, or mean intersection over union of the classes, in percent."""
    augmentations: tuple[Augmentation, ...] = ("crop-flip",)
    """Those that a recipe may use."""
    validation_examples: int = 0
    """Of a validation split the data set has itself; 0 where the recipe holds one out of the training split."""

    @property
    def default_blocks(self) -> tuple[str, ...]:
        """Block kinds of a search that names none: those with a choice of depths at any size, or all if none has."""
        return tuple(block for block in self.blocks if block in _DEFAULT) or self.blocks

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name.

        Raises:
            InvalidInput: for an unknown name.
        """
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        known = ", ".join(recipe.name for recipe in self.recipes)
        raise InvalidInput("recipe", name, f"is not a recipe of task {self.name}", f"use one of {known}")

    def validation_size(self, recipe: Recipe) -> int:
        """How many examples networks trained by a recipe are compared on: the data set's own, or those held out."""
        return self.validation_examples or round(self.train_examples * recipe.float_part.validation_share)

    def recipe_changes(self, recipe: Recipe) -> dict[str, Any]:
        """The settings in which a recipe differs from ``recipe_base``, by their dotted names."""
        return differences(recipe, self.recipe_base(recipe))

    def recipe_base(self, recipe: Recipe) -> Recipe:
        """The one of this task's recipes that a recipe's name begins with, or else the default."""
        return next((each for each in self.recipes if recipe.name.startswith(each.name)), self.recipes[0])


def nothing_to_check(_data_root: Path) -> None:
    """For data sets that come with a library or are computed."""
