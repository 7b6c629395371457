"""``images/<folder>``, ``images/<folder>@<size>``: the user's own images, one folder per class, below the data root.

``<data root>/images/<folder>/`` holds the class folders, or ``train/`` and, if wanted, ``val/`` and ``test/`` that do.
Without ``test/`` a fifth of every class is the test split, chosen by a hash of the files' names. Images become RGB of
``size`` pixels a side (32 if the name does not say): the shorter side is resized, the middle cut out.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qcore.errors import DataMissing, InvalidInput
from qcore.files import leads_below, shown
from qcore.recipe import PAPER_CIFAR10, FloatRecipe, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import (
    CONVOLUTIONAL,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LARGE_IMAGE,
    LARGE_IMAGES,
    Examples,
    FileExamples,
    Files,
    Task,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from qcore.tasks.task import Reader

Image: TypeAlias = tuple[str, int]
"""Path relative to the folder, and class."""
Images: TypeAlias = tuple[Image, ...]

PREFIX = "images/"
DEFAULT_SIZE, LEAST_SIZE, MOST_SIZE = 32, 8, 512
LONGEST_NAME = 64
MOST_CLASSES = 10_000
MOST_BYTES_IN_MEMORY = 2**29
"""Data sets with more bytes of resized images are read file by file: 174,762 images of 32x32, 3,566 of 224x224."""
TEST_SHARE = 0.2
EXTENSIONS = tuple(
    ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()  # noqa: SIM905
)
"""Files that end otherwise, in lower or upper case, are no images; nor are hidden ones."""

_NAME = re.compile(r"images/([A-Za-z0-9][A-Za-z0-9._-]*)(?:@([1-9][0-9]{0,4}))?", re.ASCII)
_VERSION = re.compile(r"(\d+)c-(\d+)-(\d+)-(\d+)-[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True)
class Contents:
    """What a folder holds: class names, and the images of each split."""

    classes: tuple[str, ...]
    train: Images
    validation: Images
    """Empty where there is no ``val/``."""
    test: Images
    digest: str
    """Of the sorted relative paths and sizes in bytes."""

    @property
    def version(self) -> str:
        """Says classes and counts too, so that a stored task is known without its images."""
        counts = "-".join(str(len(split)) for split in (self.train, self.validation, self.test))
        return f"{len(self.classes)}c-{counts}-{self.digest[:32]}"


def task_of(name: str, data_root: Path) -> Task:
    """The task that a folder below the data root is.

    Raises:
        InvalidInput: for a name of another form.
        DataMissing: when there is no such folder, or it is not laid out as above.
    """
    folder, size = _parsed(name)
    return _task(folder, size, read_contents(_canonical(folder, size), folder, data_root).version)


def stored_task_of(name: str, version: str) -> Task:
    """The task that had that version, which ``load`` insists on; looks at no files."""
    folder, size = _parsed(name)
    assert _VERSION.fullmatch(version), version
    return _task(folder, size, version)


def tasks_below(data_root: Path) -> list[Task]:
    """Every folder below ``images/`` that is a task, at the default size, by name."""
    try:
        folders = sorted(entry.name for entry in os.scandir(data_root / PREFIX) if entry.is_dir())
    except OSError:
        return []
    found = []
    for folder in folders:
        try:
            found.append(task_of(PREFIX + folder, data_root))
        except InvalidInput:  # asking for it by name tells what is wrong with it
            continue
    return found


def check(name: str, version: str, data_root: Path) -> None:
    """Compares paths and sizes; opens no image."""
    _contents_of_version(name, version, data_root)


def load(name: str, version: str, data_root: Path) -> Examples | FileExamples:
    """Reads the images, if they are still those of that version: into memory if they fit."""
    contents = _contents_of_version(name, version, data_root)

    from qcore.images import ClassReader

    folder, size = _parsed(name)
    reader = ClassReader(name, data_root / PREFIX / folder, size, size, from_cameras=True)
    count = len(contents.train) + len(contents.validation) + len(contents.test)
    if count * 3 * size * size > MOST_BYTES_IN_MEMORY:
        validation = _files(contents.validation) if contents.validation else None
        return FileExamples(reader, _files(contents.train), _files(contents.test), validation)
    train, test = _decoded(contents.train, reader), _decoded(contents.test, reader)
    if not contents.validation:
        return Examples(*train, *test)
    return Examples(*train, *test, *_decoded(contents.validation, reader))


def read_contents(name: str, folder: str, data_root: Path) -> Contents:
    """Lists a folder's images; symbolic links may lead nowhere outside the data root."""
    return _Listing(name, data_root, data_root / PREFIX / folder).contents()


@dataclass(frozen=True)
class _Listing:
    name: str
    data_root: Path
    folder: Path

    def contents(self) -> Contents:
        try:
            return self._contents()
        except OSError as error:
            raise self._unusable(f"cannot be read ({shown(str(error))})") from error

    def _contents(self) -> Contents:
        if not self.folder.is_dir():
            raise self._unusable(f"lacks the folder {self.folder}")
        top = self._folders("")
        split = "train" in top
        places = {part: f"{part}/" for part in ("train", "val", "test") if part in top} if split else {"train": ""}
        classes = self._folders(places["train"])
        if not 2 <= len(classes) <= MOST_CLASSES:
            where = self.folder / places["train"]
            raise self._unusable(f"has {len(classes)} class folders in {where}; there have to be 2 to {MOST_CLASSES}")
        sizes: dict[str, int] = {}
        images = {part: self._images(place, classes, sizes) for part, place in places.items()}
        counts = Counter(label for _, label in images["train"])
        for label, each in enumerate(classes):
            least = 1 if "test" in images else 2  # one to train on and one to test on
            if counts[label] < least:
                raise self._unusable(f"has fewer than {least} images in {shown(self.folder / places['train'] / each)}")
        if "test" not in images:
            images["train"], images["test"] = _split(images["train"], len(classes))
        for part in set(places) - {"train"}:
            if not images[part]:
                raise self._unusable(f"has no images in {self.folder / part}")
        listed = hashlib.sha256()
        for path, size in sorted(sizes.items()):
            listed.update(os.fsencode(path) + b"\0%d\n" % size)
        return Contents(
            tuple(classes),
            tuple(images["train"]),
            tuple(images.get("val", ())),
            tuple(images["test"]),
            listed.hexdigest(),
        )

    def _folders(self, place: str) -> list[str]:
        self._confine(self.folder / place)
        with os.scandir(self.folder / place) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def _images(self, place: str, classes: list[str], sizes: dict[str, int]) -> list[Image]:
        """The images below one split's class folders; their sizes are added to ``sizes``."""
        if unknown := sorted(set(self._folders(place)) - set(classes)):
            raise self._unusable(f"has {place}{shown(unknown[0])}, which is no class of train/")
        found = []
        for label, name in enumerate(classes):
            top = self.folder / place / name
            self._confine(top)
            for path, size in sorted(self._files_below(f"{place}{name}/")):
                sizes[path] = size
                found.append((path, label))
        return found

    def _files_below(self, place: str) -> list[tuple[str, int]]:
        """Path relative to the whole folder, and bytes, of every image, however deep."""
        found: list[tuple[str, int]] = []
        places = [place] if (self.folder / place).is_dir() else []
        while places:
            place = places.pop()
            with os.scandir(self.folder / place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        places.append(f"{place}{entry.name}/")
                    elif entry.name.lower().endswith(EXTENSIONS) and (entry.is_symlink() or entry.is_file()):
                        if entry.is_symlink():
                            self._confine(Path(entry.path))
                        found.append((place + entry.name, entry.stat().st_size))
        return found

    def _confine(self, path: Path) -> None:
        if not leads_below(path, self.data_root):
            raise self._unusable(f"leads outside the data root by {shown(path)}")

    def _unusable(self, problem: str) -> DataMissing:
        return DataMissing(
            "task",
            self.name,
            problem,
            f"put one folder of images per class in {self.folder}, or below train/, val/ and test/ in it",
        )


def _split(images: list[Image], classes: int) -> tuple[list[Image], list[Image]]:
    """Training and test images: of every class, the fifth with the lowest hashes of their names is tested on."""
    by_class: list[list[str]] = [[] for _ in range(classes)]
    for path, label in images:
        by_class[label].append(path)
    tested: set[str] = set()
    for paths in by_class:
        count = max(1, round(TEST_SHARE * len(paths)))
        tested.update(sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())[:count])
    train = [image for image in images if image[0] not in tested]
    return train, [image for image in images if image[0] in tested]


def _contents_of_version(name: str, version: str, data_root: Path) -> Contents:
    folder, _ = _parsed(name)
    contents = read_contents(name, folder, data_root)
    if contents.version != version:
        raise DataMissing(
            "task",
            name,
            f"has other images than asked for in {data_root / PREFIX / folder}: version {contents.version}, "
            f"not {version}",
            "put the same images there, or post a new search for those that are there",
        )
    return contents


def _files(images: Images) -> Files:
    import numpy as np

    return Files(np.array([os.fsencode(path) for path, _ in images]), _labels(images))


def _decoded(images: Images, reader: Reader) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    import numpy as np

    decoded = np.empty((len(images), *reader.shape), dtype=np.uint8)
    for index, (path, label) in enumerate(images):
        decoded[index], _ = reader.read(os.fsencode(path), label)
    return decoded, _labels(images)


def _labels(images: Images) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.array([label for _, label in images], dtype=np.int64)


def _parsed(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    if match is None or len(name) > LONGEST_NAME:
        raise InvalidInput(
            "task",
            name,
            "is not the name of an image folder",
            f"use images/<folder> or images/<folder>@<size>, at most {LONGEST_NAME} letters, digits, dots, dashes and "
            "underscores, for a folder below images/ in the data root",
        )
    size = int(match[2] or DEFAULT_SIZE)
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise InvalidInput("task", name, "has an impossible image size", f"use @{LEAST_SIZE} to @{MOST_SIZE}")
    return match[1], size


def _canonical(folder: str, size: int) -> str:
    return f"{PREFIX}{folder}" if size == DEFAULT_SIZE else f"{PREFIX}{folder}@{size}"


def _task(folder: str, size: int, version: str) -> Task:
    name = _canonical(folder, size)
    match = _VERSION.fullmatch(version)
    assert match is not None
    classes, train, validation, test = map(int, match.groups())
    return Task(
        name=name,
        version=version,
        title=f"Images of the folder {folder}, {size}x{size}",
        input_shape=(3, size, size),
        classes=classes,
        input_bits=8,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        blocks=CONVOLUTIONAL if size < LARGE_IMAGE else tuple(dict.fromkeys((*CONVOLUTIONAL, *LARGE_IMAGES))),
        train_examples=train,
        test_examples=test,
        recipes=_recipes(size, train),
        load=partial(load, name, version),
        check=partial(check, name, version),
        validation_examples=validation,
    )


def _recipes(size: int, train_examples: int) -> tuple[Recipe, ...]:
    """CIFAR-10's schedules, shorter and the paper's. Batches are smaller where fewer than 20 would make an epoch.

    Nothing is flipped unless asked for: a mirrored part or letter may be another one.
    """
    batch_size = next((size for size in (128, 64, 32, 16) if train_examples >= 20 * size), 8)
    crop_padding = min(32, size // 8)
    short = FloatRecipe(
        schedule=Schedule(epochs=30, warmup_epochs=2, weight_decay=5e-4),
        batch_size=batch_size,
        crop_padding=crop_padding,
    )
    return (
        Recipe(
            name="short",
            float_part=short,
            retraining=RetrainingRecipe(schedule=Schedule(epochs=15, learning_rate=0.02, warmup_epochs=1)),
        ),
        Recipe(
            name="paper",
            float_part=short.model_copy(update={"schedule": PAPER_CIFAR10.float_part.schedule}),
            retraining=PAPER_CIFAR10.retraining,
        ),
    )
