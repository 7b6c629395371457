"""``voc2012``, ``voc2012-aug``: PASCAL VOC 2012 semantic segmentation, read file by file.

20 object classes and the background; what annotators left open counts nowhere. ``voc2012`` trains on the 1,464 original
images, ``voc2012-aug`` on the 10,582 that Hariharan et al. (2011) make of them. Both are tested on the 1,449 validation
images, whole, padded to 513x513.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from qcore.errors import DataMissing
from qcore.files import read_regular
from qcore.recipe import FloatRecipe, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import IMAGENET_MEAN, IMAGENET_STD, SEGMENTATION, FileExamples, Files, Task

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "VOCdevkit/VOC2012"
CLASSES, SIZE = 21, 513
TEST_EXAMPLES = 1449
BATCH_SIZE = 16
_MOST_LIST_BYTES = 2**24
_IDENTIFIER = re.compile(r"[0-9A-Za-z_]+", re.ASCII)


@dataclass(frozen=True)
class _Training:
    """What a task trains on: the list of its images, and the folder of their class indices."""

    task: str
    images: str
    masks: str
    examples: int


ORIGINAL = _Training("voc2012", "train", "SegmentationClass", 1464)
AUGMENTED = _Training("voc2012-aug", "trainaug", "SegmentationClassAug", 10_582)


def check(training: _Training, data_root: Path, test_examples: int = TEST_EXAMPLES) -> None:
    """Looks at the two lists and the names in the folders they refer to.

    Raises:
        DataMissing: when a list or a file is missing, a list is not as long as published, or both have one image.
    """
    _listed(training, data_root, test_examples)


def load(training: _Training, data_root: Path, test_examples: int = TEST_EXAMPLES) -> FileExamples:
    """The names of images and masks, with a reader that makes examples of 513x513 pixels; raises as ``check`` does."""
    train, test = _listed(training, data_root, test_examples)

    from qcore.images import SegmentationReader

    red, green, blue = (round(255 * mean) for mean in IMAGENET_MEAN)
    reader = SegmentationReader(training.task, data_root / FOLDER, SIZE, CLASSES, (red, green, blue))
    return FileExamples(reader, _files(train, training.masks), _files(test, ORIGINAL.masks))


def _listed(training: _Training, data_root: Path, test_examples: int) -> tuple[list[str], list[str]]:
    """The identifiers of training and test images, whose files are all there."""
    train = _identifiers(training, data_root, training.images, training.masks, training.examples)
    test = _identifiers(training, data_root, "val", ORIGINAL.masks, test_examples)
    if both := sorted(set(train) & set(test)):
        raise _data_missing(training, data_root, f"would train on {both[0]}, which is in val.txt too")
    return train, test


def _identifiers(training: _Training, data_root: Path, images: str, masks: str, expected: int) -> list[str]:
    folder = data_root / FOLDER
    path = folder / "ImageSets/Segmentation" / f"{images}.txt"
    try:
        found = read_regular(path, _MOST_LIST_BYTES).decode("ascii").split()
        if wrong := [line for line in found if _IDENTIFIER.fullmatch(line) is None]:
            raise ValueError(f"{wrong[0][:100]} is no image's identifier")
        present = {each: {file.name for file in (folder / each).iterdir()} for each in ("JPEGImages", masks)}
    except FileNotFoundError as error:
        raise _data_missing(training, data_root, f"lacks {error.filename}") from error
    except (OSError, ValueError) as error:
        raise _data_missing(training, data_root, f"has an unreadable {path} ({error})") from error
    if len(set(found)) != expected or len(found) != expected:
        raise _data_missing(training, data_root, f"has {len(set(found)):,} images instead of {expected:,} in {path}")
    wanted = [("JPEGImages", f"{each}.jpg") for each in found] + [(masks, f"{each}.png") for each in found]
    missing = [f"{place}/{name}" for place, name in wanted if name not in present[place]]
    if missing:
        more = f" and {len(missing) - 1:,} more files" if len(missing) > 1 else ""
        raise _data_missing(training, data_root, f"lacks {missing[0]}{more} in {folder}")
    return found


def _files(identifiers: list[str], masks: str) -> Files:
    import numpy as np

    return Files(
        np.array([os.fsencode(f"JPEGImages/{each}.jpg") for each in identifiers]),
        np.array([os.fsencode(f"{masks}/{each}.png") for each in identifiers]),
    )


def _data_missing(training: _Training, data_root: Path, problem: str) -> DataMissing:
    remedy = (
        f"unpack VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ in {data_root}, "
        f"or run python -c \"import torchvision; torchvision.datasets.VOCSegmentation('{data_root}', download=True)\""
    )
    if training is AUGMENTED:
        remedy += (
            f"; and put the 10,582 identifiers in {FOLDER}/ImageSets/Segmentation/trainaug.txt and their grayscale "
            f"masks in {FOLDER}/SegmentationClassAug/*.png, both made of the Semantic Boundaries Dataset "
            "(benchmark.tgz of http://home.bharathh.info/pubs/codes/SBD/download.html) "
            "and offered ready-made as SegmentationClassAug.zip"
        )
    return DataMissing("task", training.task, problem, remedy)


def _recipe(name: str, learning_rate: float, float_epochs: int, retraining_epochs: int, share: float) -> Recipe:
    def schedule(epochs: int, rate: float) -> Schedule:
        return Schedule(epochs=epochs, learning_rate=rate, decay="poly", weight_decay=4e-5)

    return Recipe(
        name=name,
        float_part=FloatRecipe(
            schedule=schedule(float_epochs, learning_rate),
            batch_size=BATCH_SIZE,
            augmentation="scale-crop",
            flip=True,
            validation_share=share,
        ),
        retraining=RetrainingRecipe(schedule=schedule(retraining_epochs, 1e-3)),
    )


# Section 4: 30K iterations of 16 images at 1e-3, for fine-tuning on the original images and for retraining; that is 330
# epochs of 91 batches. The weight decay is that of the reference implementation's MobileNetV2. On the augmented images,
# 30K iterations (46 epochs of 661 batches) start at DeepLabV3's 7e-3; the paper takes such a network ready-made.
TASK = Task(
    name=ORIGINAL.task,
    version="1",
    title="PASCAL VOC 2012 segmentation, 513x513, 1,464 training images",
    input_shape=(3, SIZE, SIZE),
    classes=CLASSES,
    input_bits=8,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    blocks=SEGMENTATION,
    train_examples=ORIGINAL.examples,
    test_examples=TEST_EXAMPLES,
    recipes=(_recipe("short", 7e-3, 60, 30, 0.1), _recipe("paper", 1e-3, 330, 330, 0.0)),
    load=partial(load, ORIGINAL),
    check=partial(check, ORIGINAL),
    metric="mIOU",
    augmentations=("scale-crop",),
)

TASK_AUGMENTED = replace(
    TASK,
    name=AUGMENTED.task,
    title="PASCAL VOC 2012 segmentation, 513x513, 10,582 augmented training images",
    train_examples=AUGMENTED.examples,
    recipes=(_recipe("short", 7e-3, 12, 6, 0.1), _recipe("paper", 7e-3, 46, 46, 0.0)),
    load=partial(load, AUGMENTED),
    check=partial(check, AUGMENTED),
)
