"""``imagenet``: the 1,000 classes of ILSVRC 2012, one folder each, read file by file. Its validation images are the
test split, as is usual where test labels are unpublished; validation is held out of the training images.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qcore.errors import DataMissing
from qcore.recipe import FloatRecipe, QuantizerSettings, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import IMAGENET_MEAN, IMAGENET_STD, LARGE_IMAGES, FileExamples, Files, Task

if TYPE_CHECKING:
    from pathlib import Path

NAME = "imagenet"
CLASSES, TRAIN_EXAMPLES, TEST_EXAMPLES = 1000, 1_281_167, 50_000
SIZE, RESIZED = 224, 256


def check(data_root: Path, classes: int = CLASSES) -> None:
    """Looks at the names of the class folders only."""
    _class_names(data_root, classes)


def load(
    data_root: Path,
    classes: int = CLASSES,
    train_examples: int = TRAIN_EXAMPLES,
    test_examples: int = TEST_EXAMPLES,
) -> FileExamples:
    """Lists all images; classes are numbered in their folders' (WordNet ids') order."""
    names = _class_names(data_root, classes)

    from qcore.images import ClassReader

    folder = data_root / NAME
    return FileExamples(
        ClassReader(NAME, folder, SIZE, RESIZED),
        _listed(data_root, "train", names, train_examples),
        _listed(data_root, "val", names, test_examples),
    )


def _class_names(data_root: Path, classes: int) -> list[str]:
    found = {}
    for split in ("train", "val"):
        folder = data_root / NAME / split
        if not folder.is_dir():
            raise _data_missing(data_root, f"lacks the folder {folder}")
        found[split] = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        if len(found[split]) != classes:
            raise _data_missing(data_root, f"has {len(found[split])} class folders instead of {classes} in {folder}")
    if found["train"] != found["val"]:
        other = min(set(found["train"]) ^ set(found["val"]))
        raise _data_missing(data_root, f"has {other} in only one of {data_root / NAME}/train and val")
    return found["train"]


def _listed(data_root: Path, split: str, class_names: list[str], expected: int) -> Files:
    import numpy as np

    folder = data_root / NAME / split
    files, labels = [], []
    for label, name in enumerate(class_names):
        images = sorted(entry.name for entry in os.scandir(folder / name) if entry.name.endswith(".JPEG"))
        files += [os.fsencode(f"{split}/{name}/{image}") for image in images]
        labels += [label] * len(images)
    if len(files) != expected:
        raise _data_missing(data_root, f"has {len(files):,} *.JPEG instead of {expected:,} below {folder}")
    return Files(np.array(files), np.array(labels, dtype=np.int64))


def _data_missing(data_root: Path, problem: str) -> DataMissing:
    return DataMissing(
        "task",
        NAME,
        problem,
        "with an account of https://image-net.org/download-images, download ILSVRC2012_img_train.tar and "
        f"ILSVRC2012_img_val.tar; unpack them to {data_root / NAME}/train/<wnid>/*.JPEG (the train archive holds an "
        "archive per class) and val/<wnid>/*.JPEG (sorted into classes by the ground truth of "
        "ILSVRC2012_devkit_t12.tar.gz; torchvision.datasets.ImageNet does both)",
    )


def _float_part(schedule: Schedule, validation_share: float) -> FloatRecipe:
    return FloatRecipe(
        schedule=schedule,
        batch_size=256,
        augmentation="random-resized-crop",
        flip=True,
        validation_share=validation_share,
    )


# The paper refers to Jung et al. (2019) for its hyperparameters and gives no numbers. These are ours: the schedule that
# ResNets on ImageNet are customarily trained with, and a retraining as long. Four-level weights are the paper's.
_QUANTIZERS = QuantizerSettings(weight_levels="mid_rise")
PAPER = Recipe(
    name="paper",
    float_part=_float_part(Schedule(epochs=90, decay="steps", milestones=(30, 60, 80), weight_decay=1e-4), 0.0),
    retraining=RetrainingRecipe(
        schedule=Schedule(epochs=90, learning_rate=0.01, weight_decay=1e-4), quantizers=_QUANTIZERS
    ),
)
SHORT = Recipe(
    name="short",
    float_part=_float_part(Schedule(epochs=16, warmup_epochs=1, weight_decay=1e-4), 0.02),
    retraining=RetrainingRecipe(
        schedule=Schedule(epochs=8, learning_rate=0.01, weight_decay=1e-4), quantizers=_QUANTIZERS
    ),
)

TASK = Task(
    name=NAME,
    version="1",
    title="ImageNet (ILSVRC 2012), 224x224",
    input_shape=(3, SIZE, SIZE),
    classes=CLASSES,
    input_bits=8,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    blocks=LARGE_IMAGES,
    train_examples=TRAIN_EXAMPLES,
    test_examples=TEST_EXAMPLES,
    recipes=(SHORT, PAPER),
    load=load,
    check=check,
    augmentations=("random-resized-crop",),
)
