"""Image files in the layouts that tasks read, written for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

Pixels = npt.NDArray[np.uint8]


def random_pixels(seed: int, width: int, height: int) -> Pixels:
    """(height, width, 3): a few colors in large squares, so that JPEG keeps them."""
    random = np.random.default_rng(seed)
    squares = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return squares.repeat(8, 0).repeat(8, 1)[:height, :width]


def write_image(path: Path, pixels: npt.NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_class_folders(folder: Path, counts: dict[str, int], size: tuple[int, int] = (40, 30), seed: int = 0) -> None:
    """``counts`` PNGs per class; the class with index k is bright where k is large."""
    for label, (name, count) in enumerate(counts.items()):
        for index in range(count):
            pixels = random_pixels(seed + 1000 * label + index, *size) // 8 + np.uint8(label * 200 // len(counts))
            write_image(folder / name / f"{index:03}.png", pixels)


def palette() -> list[int]:
    """The colors of PASCAL VOC's masks: bit by bit, the index is spread over red, green and blue from the top."""
    colors = []
    for index in range(256):
        color = [0, 0, 0]
        for bit in range(8):
            color[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colors += color
    return colors


def write_mask(path: Path, indices: Pixels, *, with_palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices)
    if with_palette:
        image.putpalette(palette())
        assert image.mode == "P"
    image.save(path)


def write_voc(data_root: Path, lists: dict[str, list[str]], size: tuple[int, int] = (50, 40)) -> Path:
    """Images, masks and lists of their identifiers; the masks of ``trainaug`` are grayscale, others have palettes."""
    folder = data_root / "VOCdevkit" / "VOC2012"
    for number, (name, identifiers) in enumerate(lists.items()):
        path = folder / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{each}\n" for each in identifiers))
        masks = "SegmentationClassAug" if name == "trainaug" else "SegmentationClass"
        for index, each in enumerate(identifiers):
            seed = 100 * number + index
            write_image(folder / "JPEGImages" / f"{each}.jpg", random_pixels(seed, *size))
            indices = random_pixels(seed, *size)[:, :, 0] % 22
            indices[indices == 21] = 255
            write_mask(folder / masks / f"{each}.png", indices, with_palette=name != "trainaug")
    return folder
