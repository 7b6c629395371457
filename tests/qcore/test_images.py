"""Image files: what networks see of them, against torchvision's transforms and pixels cut out by hand."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import Pixels, random_pixels, write_image, write_mask
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from qcore import DataMissing
from qcore.images import SCALES, ClassReader, SegmentationReader, open_image, random_crop_box
from qcore.recipe import FloatRecipe, Schedule

FILL = (10, 20, 30)
ZERO = np.int64(0)


def recipe(augmentation: str, *, flip: bool = False) -> FloatRecipe:
    return FloatRecipe(schedule=Schedule(epochs=1), augmentation=augmentation, flip=flip)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (224, 224), (60, 41), (256, 300)])
def test_evaluation_sees_the_middle_of_the_resized_image_as_torchvision_cuts_it_out(
    size: tuple[int, int], tmp_path: Path
) -> None:
    pixels = random_pixels(1, *size)
    write_image(tmp_path / "a.png", pixels)
    found, label = ClassReader("imagenet", tmp_path, 224, 256).read(b"a.png", np.int64(7))
    expected = Compose([Resize(256), CenterCrop(224)])(Image.fromarray(pixels))
    assert int(label) == 7
    assert found.shape == (3, 224, 224)
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32))
@settings(deadline=None, max_examples=300)
def test_a_random_crop_lies_within_the_image_and_keeps_area_and_proportions(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = random_crop_box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    wide, high = right - left, bottom - top
    if min(width, height) >= 50 and max(width, height) <= 4 / 3 * min(width, height):  # else nothing may fit
        assert 0.075 <= wide * high / (width * height) <= 1.0
        assert 0.7 <= wide / high <= 1.4


def test_random_crops_differ_reach_every_side_and_follow_from_their_generator() -> None:
    boxes = [random_crop_box(100, 100, np.random.default_rng(seed)) for seed in range(500)]
    areas = [(right - left) * (bottom - top) / 100**2 for left, top, right, bottom in boxes]
    assert len(set(boxes)) > 450
    assert np.mean(areas) == pytest.approx(0.5, abs=0.06)
    assert min(areas) < 0.12
    assert max(areas) > 0.85
    assert min(box[0] for box in boxes) == min(box[1] for box in boxes) == 0
    assert max(box[2] for box in boxes) == max(box[3] for box in boxes) == 100
    assert boxes == [random_crop_box(100, 100, np.random.default_rng(seed)) for seed in range(500)]


def test_augmented_images_are_a_resized_part_and_half_of_them_mirrored(tmp_path: Path) -> None:
    # Red rises to the right and green downwards, over any part of the image.
    y, x = np.mgrid[0:64, 0:64].astype(np.uint8)
    write_image(tmp_path / "a.png", np.stack([3 * x, 3 * y, 0 * x], axis=2))
    reader, rising = ClassReader("t", tmp_path, 16, 18), 0
    for seed in range(100):
        image, _ = reader.read_augmented(
            b"a.png", ZERO, recipe("random-resized-crop", flip=True), np.random.default_rng(seed)
        )
        assert image.shape == (3, 16, 16)
        assert int(image[1, -1, 0]) > int(image[1, 0, 0])
        rising += int(image[0, 0, -1]) > int(image[0, 0, 0])
    assert 30 <= rising <= 70


def test_grayscale_palette_and_16_bit_images_become_rgb(tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_image(tmp_path / "gray.png", gray)
    write_mask(tmp_path / "palette.png", gray)
    write_image(tmp_path / "deep.png", gray.astype(np.uint16) * 256 + 77)
    write_image(tmp_path / "deep.tif", gray.astype(np.uint16) * 256 + 77)
    for name in ("gray.png", "deep.png", "deep.tif"):
        found = np.asarray(open_image("t", tmp_path / name))
        assert found.shape == (16, 16, 3)
        assert all(np.array_equal(found[:, :, channel], gray) for channel in range(3))
    assert np.asarray(open_image("t", tmp_path / "palette.png"))[0, 15].tolist() == [192, 128, 128]  # VOC's person


def test_camera_images_are_turned_as_they_say_and_keep_their_looks_when_decoded_small(tmp_path: Path) -> None:
    pixels = random_pixels(2, 400, 320)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned left: to be shown turned right
    write_image(tmp_path / "turned.jpg", pixels, exif=turned, quality=95)
    found = open_image("t", tmp_path / "turned.jpg", least_side=64)
    assert found.size == (80, 100)  # a quarter of 320 x 400
    whole = Image.fromarray(np.rot90(pixels, -1)).resize((80, 100), Image.Resampling.BOX)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(whole)).mean() < 6
    assert open_image("t", tmp_path / "turned.jpg").size == (400, 320)


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "float"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_what_cannot_be_decoded_is_refused_by_name(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{suffix}"
    if kind == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(path, format="TIFF")
    else:
        write_image(path, np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8))
        content = path.read_bytes()
        path.write_bytes({"cut": content[: len(content) // 2], "text": b"no image", "empty": b""}[kind])
    with pytest.raises(DataMissing) as raised:
        open_image("images/parts", path)
    assert raised.value.value == "images/parts"
    assert str(path) in raised.value.problem


def segmented(tmp_path: Path, indices: Pixels, size: int) -> SegmentationReader:
    """The image's red is its class; ignored pixels are red 255."""
    write_image(tmp_path / "a.png", np.stack([indices, indices, indices], axis=2))
    write_mask(tmp_path / "mask.png", indices)
    return SegmentationReader("voc2012", tmp_path, size, 21, FILL)


def test_masks_are_class_indices_and_whole_images_are_filled_up_with_what_is_ignored(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 21, (12, 17), dtype=np.uint8)
    indices[3, 4] = 255
    image, mask = segmented(tmp_path, indices, 20).read(b"a.png", np.bytes_(b"mask.png"))
    assert image.shape == (3, 20, 20)
    assert mask.shape == (20, 20)
    assert np.array_equal(mask[:12, :17], indices)
    assert np.array_equal(image[0, :12, :17], indices)
    outside = np.ones((20, 20), dtype=bool)
    outside[:12, :17] = False
    assert (mask[outside] == 255).all()
    assert (image[:, outside].T == FILL).all()


@given(st.integers(4, 60), st.integers(4, 60), st.booleans(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=80)
def test_scaled_crops_keep_image_and_mask_together(width: int, height: int, flip: bool, seed: int) -> None:
    # Left and right halves of two classes: any scale keeps them but for a seam.
    indices = np.full((height, width), 5, dtype=np.uint8)
    indices[:, width // 2 :] = 18
    with TemporaryDirectory() as folder:
        image, mask = segmented(Path(folder), indices, 24).read_augmented(
            b"a.png", np.bytes_(b"mask.png"), recipe("scale-crop", flip=flip), np.random.default_rng(seed)
        )
    ignored = mask == 255
    assert set(np.unique(mask).tolist()) <= {5, 18, 255}
    assert (image[:, ignored].T == FILL).all()
    apart = (image[0] != mask) & ~ignored
    assert apart.sum(axis=1).max(initial=0) <= 6  # the seam, at most of two pixels' width at twice the size
    sizes = {(int(height * scale), int(width * scale)) for scale in SCALES}
    kept = ((~ignored).any(1).sum(), (~ignored).any(0).sum())
    assert kept in {(min(24, max(1, high)), min(24, max(1, wide))) for high, wide in sizes}


def test_scales_are_those_of_deeplab_all_are_drawn_and_half_of_the_images_mirrored(tmp_path: Path) -> None:
    assert SCALES == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    indices = np.full((16, 16), 5, dtype=np.uint8)
    indices[:, 8:] = 18
    reader, sizes, mirrored = segmented(tmp_path, indices, 40), set(), 0
    for seed in range(100):
        _, mask = reader.read_augmented(
            b"a.png", np.bytes_(b"mask.png"), recipe("scale-crop", flip=True), np.random.default_rng(seed)
        )
        sizes.add(int((mask[:, 0] != 255).sum()))
        mirrored += int(mask[0, 0]) == 18
    assert sizes == {8, 12, 16, 20, 24, 28, 32}
    assert 30 <= mirrored <= 70


def test_every_part_of_a_large_image_is_cut_out_mirrored_or_not(tmp_path: Path) -> None:
    indices = np.zeros((12, 12), dtype=np.uint8)
    indices[0, 0], indices[0, 11], indices[11, 0], indices[11, 11] = 1, 2, 3, 4
    seen: set[int] = set()
    for seed in range(200):
        _, mask = segmented(tmp_path, indices, 8).read_augmented(
            b"a.png", np.bytes_(b"mask.png"), recipe("scale-crop", flip=True), np.random.default_rng(seed)
        )
        seen |= set(mask.flatten().tolist())
    assert {1, 2, 3, 4} <= seen


def test_masks_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    indices = np.zeros((6, 9), dtype=np.uint8)
    reader, mask = segmented(tmp_path, indices, 20), np.bytes_(b"mask.png")
    write_mask(tmp_path / "mask.png", indices + np.uint8(21))
    with pytest.raises(DataMissing, match=r"mask\.png \(21 is no class\)"):
        reader.read(b"a.png", mask)
    write_mask(tmp_path / "mask.png", indices.T)
    with pytest.raises(DataMissing, match=r"mask\.png \(6x9 pixels for an image of 9x6\)"):
        reader.read(b"a.png", mask)
    write_image(tmp_path / "mask.png", np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(DataMissing, match=r"mask\.png \(mode RGB"):
        reader.read(b"a.png", mask)
    segmented(tmp_path, np.zeros((21, 9), np.uint8), 20)
    with pytest.raises(DataMissing, match=r"a\.png \(9x21 pixels exceed 20\)"):
        reader.read(b"a.png", mask)
