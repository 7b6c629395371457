"""Image files as arrays: decoded, brought to a network's input size, and varied for training. Needs no torch.

Arrays are uint8 of shape (3, height, width); sizes of PIL's images are (width, height).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from qcore.errors import DataMissing
from qcore.files import shown
from qcore.image_files import UnreadableImage, read_image

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from qcore.layers import Shape
    from qcore.recipe import FloatRecipe

    Pixels: TypeAlias = npt.NDArray[np.uint8]

_PIXELS_AT_ONCE = 2**20
_MOST_OVERSIZE = 4
"""How many times as large as its window an image may be that is scaled."""
_BILINEAR, _NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
IGNORED_PIXEL = 255
LEAST_AREA, ASPECT_RATIOS, CROP_ATTEMPTS = 0.08, (3 / 4, 4 / 3), 10
"""Random resized crops as Inception networks were trained with and ResNets since."""
MOST_PROPORTION = 64
"""Of images that are longer, in proportion to their width, the middle is cut out before they are enlarged."""
SCALES = tuple(0.5 + 0.25 * step for step in range(7))
"""Of DeepLabV3's training images."""


@dataclass(frozen=True)
class ClassReader:
    """Reads images that have one class each, as ``qcore.tasks.task.Reader`` says."""

    task: str
    root: Path
    size: int
    """Pixels a side of what the network sees."""
    resized: int
    """The shorter side that an image gets before its middle is cut out for evaluation."""
    from_cameras: bool = False
    """Turned as EXIF data says; JPEGs much larger than needed are decoded at a fraction of their size."""

    @property
    def shape(self) -> Shape:
        """(3, size, size)."""
        return (3, self.size, self.size)

    def read(self, name: bytes, target: np.int64) -> tuple[Pixels, npt.NDArray[Any]]:
        """The middle ``size`` x ``size`` pixels of the image, once its shorter side has ``resized``; and its class.

        Raises:
            DataMissing: naming the file, if it cannot be decoded.
        """
        image = centre_crop(resize_shorter_side(self._open(name), self.resized), self.size)
        return _channels_first(image), np.asarray(target)

    def read_augmented(
        self, name: bytes, target: np.int64, recipe: FloatRecipe, random: np.random.Generator
    ) -> tuple[Pixels, npt.NDArray[Any]]:
        """A random part (``random_crop_box``), resized, and flipped half the time if the recipe flips; and its class.

        Raises:
            DataMissing: naming the file, if it cannot be decoded.
        """
        assert recipe.augmentation == "random-resized-crop"
        image = self._open(name)
        image = image.crop(random_crop_box(*image.size, random)).resize((self.size, self.size), _BILINEAR)
        if recipe.flip and random.random() < 0.5:
            image = ImageOps.mirror(image)
        return _channels_first(image), np.asarray(target)

    def _open(self, name: bytes) -> Image.Image:
        least = 2 * self.resized if self.from_cameras else None
        return open_image(self.task, self.root / os.fsdecode(name), least)


@dataclass(frozen=True)
class SegmentationReader:
    """Reads images whose class indices per pixel are in a file beside them, as ``qcore.tasks.task.Reader`` says."""

    task: str
    root: Path
    size: int
    """Pixels a side of what the network sees; no image is larger."""
    classes: int
    fill: tuple[int, int, int]
    """The color around images smaller than that, which is labelled as ignored."""

    @property
    def shape(self) -> Shape:
        """(3, size, size)."""
        return (3, self.size, self.size)

    def read(self, name: bytes, target: np.bytes_) -> tuple[Pixels, npt.NDArray[Any]]:
        """The whole image, filled up to (3, size, size), and its mask, uint8 (size, size).

        Raises:
            DataMissing: naming the file, if either cannot be decoded, the mask does not fit, or the image is larger.
        """
        image, mask = self._open(name, target)
        if max(image.size) > self.size:
            width, height = image.size
            raise unusable(self.task, self.root / os.fsdecode(name), f"{width}x{height} pixels exceed {self.size}")
        return self._window(image, mask, 0, 0)

    def read_augmented(
        self, name: bytes, target: np.bytes_, recipe: FloatRecipe, random: np.random.Generator
    ) -> tuple[Pixels, npt.NDArray[Any]]:
        """A random window of both, scaled by one of ``SCALES`` first, and flipped half the time if the recipe flips.

        Raises:
            DataMissing: naming the file, if either cannot be decoded or the mask does not fit.
        """
        assert recipe.augmentation == "scale-crop"
        image, mask = self._open(name, target)
        scale = SCALES[random.integers(len(SCALES))]
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        image, mask = image.resize(size, _BILINEAR), mask.resize(size, _NEAREST)
        left, top = (int(random.integers(max(0, side - self.size) + 1)) for side in size)
        if recipe.flip and random.random() < 0.5:
            image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
        return self._window(image, mask, left, top)

    def _window(self, image: Image.Image, mask: Image.Image, left: int, top: int) -> tuple[Pixels, npt.NDArray[Any]]:
        """Cut out at the network's size from (left, top) on, filled up to the right and below."""
        box = (left, top, min(left + self.size, image.width), min(top + self.size, image.height))
        window = Image.new("RGB", (self.size, self.size), self.fill)
        window.paste(image.crop(box), (0, 0))
        labels = Image.new("L", (self.size, self.size), IGNORED_PIXEL)
        labels.paste(mask.crop(box), (0, 0))
        return _channels_first(window), np.array(labels)

    def _open(self, name: bytes, target: np.bytes_) -> tuple[Image.Image, Image.Image]:
        image = open_image(self.task, self.root / os.fsdecode(name), most_side=_MOST_OVERSIZE * self.size)
        return image, open_mask(self.task, self.root / os.fsdecode(bytes(target)), self.classes, image.size)


def open_image(task: str, path: Path, least_side: int | None = None, most_side: int | None = None) -> Image.Image:
    """An image file in RGB; grayscale is repeated, 16-bit grayscale keeps its high byte.

    The arguments are those of ``qcore.image_files.read_image``.

    Raises:
        DataMissing: naming the file, if it cannot be decoded.
    """
    try:
        return _rgb(read_image(path, least_side, most_side))
    except UnreadableImage as error:
        raise unusable(task, path, str(error)) from error


def open_mask(task: str, path: Path, classes: int, size: tuple[int, int]) -> Image.Image:
    """Class indices of an image's pixels, with 255 for what is ignored, from a palette or grayscale file.

    Raises:
        DataMissing: naming the file, if it cannot be decoded, has another size, or has values that are no classes.
    """
    try:
        image = read_image(path)
    except UnreadableImage as error:
        raise unusable(task, path, str(error)) from error
    if image.mode not in ("P", "L"):
        raise unusable(task, path, f"mode {image.mode} has no class indices")
    if image.size != size:
        width, height = image.size
        raise unusable(task, path, f"{width}x{height} pixels for an image of {size[0]}x{size[1]}")
    indices = np.asarray(image)
    if wrong := sorted(set(np.unique(indices).tolist()) - {*range(classes), IGNORED_PIXEL}):
        raise unusable(task, path, f"{wrong[0]} is no class")
    return Image.fromarray(indices)


def resize_shorter_side(image: Image.Image, side: int) -> Image.Image:
    """Bilinear with antialiasing, proportions kept; of an image longer than ``MOST_PROPORTION``, the middle."""
    shorter = min(image.size)
    if max(image.size) > MOST_PROPORTION * shorter:
        longest = MOST_PROPORTION * shorter
        left, top = (max(0, length - longest) // 2 for length in image.size)
        image = image.crop((left, top, left + min(longest, image.width), top + min(longest, image.height)))
    if shorter == side:
        return image
    width, height = (side if length == shorter else int(side * length / shorter) for length in image.size)
    return image.resize((width, height), _BILINEAR)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle, ``size`` pixels a side; the image is at least as large."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def random_crop_box(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random part of an image: 8 to 100 % of its area, 3:4 to 4:3.

    Where ten attempts find none that fits, the largest middle part within these proportions.
    """
    for _ in range(CROP_ATTEMPTS):
        area = width * height * random.uniform(LEAST_AREA, 1.0)
        ratio = np.exp(random.uniform(*np.log(ASPECT_RATIOS)))
        wide, high = round(float(np.sqrt(area * ratio))), round(float(np.sqrt(area / ratio)))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(random.integers(width - wide + 1)), int(random.integers(height - high + 1))
            return left, top, left + wide, top + high
    least, most = ASPECT_RATIOS
    wide = min(width, max(1, round(height * most)))
    high = min(height, max(1, round(width / least)))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _rgb(image: Image.Image) -> Image.Image:
    return (_high_bytes(image) if image.mode.startswith("I") else image).convert("RGB")


def _high_bytes(image: Image.Image) -> Image.Image:
    """Gray pixels of 16 bits, which PIL would clip at 255, divided by 256; a part at a time."""
    found = np.empty((image.height, image.width), np.uint8)
    rows = max(1, _PIXELS_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        part = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        found[top : top + rows] = (part >> 8).clip(0, 255)
    return Image.fromarray(found)


def _channels_first(image: Image.Image) -> Pixels:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def unusable(task: str, path: Path, problem: str) -> DataMissing:
    """The error for a file of a task's data set; ``problem`` follows its name."""
    return DataMissing("task", task, f"has an unusable file {shown(path)} ({problem})", "replace it or take it out")
