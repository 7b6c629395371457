"""Image files that attack who reads them: what is no regular file, decoders' bombs, and formats that run programs."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import random_pixels, write_image
from PIL import Image

from qcore import Architecture, DataMissing, InvalidInput, Task, get_task
from qcore.files import shown
from qcore.image_files import MOST_SCANS, UnreadableImage, check_image, read_image
from qcore.images import ClassReader
from qcore.recipe import Checkpoint
from qcore.starting_network import check_starting_network

if TYPE_CHECKING:
    from collections.abc import Callable

ZERO = np.int64(0)
PNG = b"\x89PNG\r\n\x1a\n"
MOST_PEAK_BYTES = 700 * 2**20
"""Of a process with numpy and PIL; torch takes some 250 MB more."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width: int, height: int, *, samples: int = 1, extra: bytes = b"", after: bytes = b"") -> bytes:
    """Of so many bytes a pixel, with chunks before and after the pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[samples], 0, 0, 0)
    pixels = zlib.compress(bytes((width * samples + 1) * height), 1)
    return PNG + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + after + chunk(b"IEND", b"")


def tiff_of_strips(path: Path, count: int) -> None:
    """One pixel wide, every row a strip; the lists of strips are a hole in the file."""
    entries = [(256, 1, 1), (257, 1, count), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, count, 200), (277, 1, 1)]
    entries += [(278, 1, 1), (279, count, 200)]
    listed = b"".join(struct.pack("<HHII", tag, 4, number, value) for tag, number, value in entries)
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4))
        file.truncate(200 + 4 * count)


def attacks(folder: Path) -> dict[str, bool]:
    """Writes what attacks memory; whether each can be read after all."""
    orientation = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 20_000_000, 26, 0) + bytes(40_000_000)
    files = {
        "tall.png": (black_png(1, 1_000_000), True),
        "wide.png": (black_png(1_000_000, 1), True),
        "cut.png": (black_png(1, 1_000_000)[:300], False),
        "alpha.png": (black_png(8192, 4096, samples=4), True),
        "larger.png": (black_png(8192, 4097), False),
        "lies.png": (PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)), False),
        "text.png": (black_png(9, 9, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))), False),
        "long.png": (black_png(9, 9, after=chunk(b"tEXt", b"a\0" + bytes(180 * 2**20))), False),
        "turned.png": (black_png(9, 9, after=chunk(b"eXIf", orientation)), True),
        "filled.jpg": (b"\xff\xd8" + b"\xff" * 2**25 + b"\xd9", False),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    tiff_of_strips(folder / "strips.tif", 8_000_000)
    tiff_of_strips(folder / "rows.tif", 100_000)
    with (folder / "hole.png").open("wb") as file:
        file.truncate(2**40)
    return {name: is_read for name, (_, is_read) in files.items()} | {
        "strips.tif": False,
        "rows.tif": True,
        "hole.png": False,
    }


_READING = """
import sys
from pathlib import Path
import numpy as np
from qcore import DataMissing
from qcore.images import ClassReader
from qcore.training_memory import peak_bytes
reader = ClassReader("t", Path(sys.argv[1]), 512, 512, from_cameras=True)
for name in sys.argv[2:]:
    try:
        assert reader.read(name.encode(), np.int64(0))[0].shape == (3, 512, 512)
        print(name, "read", peak_bytes())
    except DataMissing as error:
        assert sys.argv[1] + "/" + name in error.problem, error
        print(name, "refused", peak_bytes(), error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_no_image_takes_much_memory_however_it_was_made(tmp_path: Path) -> None:
    expected = attacks(tmp_path)
    command = [sys.executable, "-c", _READING, str(tmp_path), *expected]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = {line.split()[0]: line.split()[1] == "read" for line in told}
    assert found == expected, told
    peaks = [int(line.split()[2]) for line in told]
    assert peaks[-1] < MOST_PEAK_BYTES, told


def test_a_strip_of_pixels_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    pixels = np.zeros((9001, 2, 3), np.uint8)
    pixels[4000:5001] = 255
    write_image(tmp_path / "strip.png", pixels)
    found, _ = ClassReader("t", tmp_path, 64, 64, from_cameras=True).read(b"strip.png", ZERO)
    assert found.min() == 255


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, link_to_pipe, link_to_device, Path.mkdir])
def test_only_regular_files_are_opened_and_nobody_waits_for_a_writer(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.png")
    for opened in (check_image, read_image):
        with pytest.raises(UnreadableImage, match="is no regular file"):
            opened(tmp_path / "a.png")
    make(tmp_path / "network.safetensors")
    checkpoint = Checkpoint(path="network.safetensors")
    with pytest.raises(InvalidInput, match=r"is no regular file|leads to no place") as raised:
        check_starting_network(*_network(), checkpoint, tmp_path)
    assert raised.value.field == "recipe.float_part.checkpoint.path"


def _network() -> tuple[Architecture, Task]:
    return Architecture("basic", 8, 3), get_task("digits")


def test_a_checkpoint_of_any_size_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "network.safetensors").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InvalidInput, match="more than the"):
        check_starting_network(*_network(), Checkpoint(path="network.safetensors"), tmp_path)


def test_lists_of_published_data_sets_are_regular_files_too(tmp_path: Path) -> None:
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    os.mkfifo(lists / "train.txt")
    with pytest.raises(DataMissing, match="is no regular file"):
        get_task("voc2012").check(tmp_path)


@pytest.mark.parametrize("name", ["eps.png", "wmf.png", "fli.gif", "psd.tif"])
def test_only_named_formats_are_decoded_whatever_a_file_is_called(name: str, tmp_path: Path) -> None:
    start = {
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(40),
        "fli": bytes(4) + b"\x11\xaf" + bytes(200),
        "psd": b"8BPS\0\1" + bytes(60),
    }[name.split(".")[0]]
    (tmp_path / name).write_bytes(start)
    with pytest.raises(UnreadableImage, match="is no image, or damaged, or none of"):
        check_image(tmp_path / name)


def test_a_jpeg_of_endless_scans_is_not_decoded(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", random_pixels(0, 64, 64), progressive=True)
    content = (tmp_path / "a.jpg").read_bytes()
    assert read_image(tmp_path / "a.jpg").size == (64, 64)
    scan = content[content.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(content[:-2] + scan * MOST_SCANS + content[-2:])
    with pytest.raises(UnreadableImage, match="scans; at most"):
        read_image(tmp_path / "a.jpg")


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_damage_ends_in_one_kind_of_error_that_tells_it_in_words(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(("png", "jpg", "gif", "tif", "bmp", "webp", "ppm", "tga", "jp2", "avif")))
    content = bytearray(_small(suffix))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        path.write_bytes(content[:cut])
        try:
            found = read_image(path, 16)
        except UnreadableImage as error:
            told = str(error)
        else:
            told = "{}x{}".format(*found.size)
        assert not re.search(r"Error|object at|<|\bb'|0x0", told), told


@lru_cache
def _small(suffix: str) -> bytes:
    file = BytesIO()
    format_ = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix.upper())
    Image.fromarray(random_pixels(1, 24, 20)).save(file, format_)
    return file.getvalue()


def test_folders_may_be_nested_deeper_than_python_calls(tmp_path: Path) -> None:
    write_image(tmp_path / "images/deep/b/1.png", random_pixels(0, 9, 9))
    write_image(tmp_path / "images/deep/b/2.png", random_pixels(1, 9, 9))
    place = str(tmp_path / "images/deep/a")
    for _ in range(1200):
        os.mkdir(place)  # noqa: PTH102  which calls itself for every part of a path
        place += "/d"
    for name in ("1.png", "2.png"):
        shutil.copy(tmp_path / "images/deep/b" / name, place[:-1] + name)
    try:
        assert get_task("images/deep", tmp_path).train_examples == 2
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "images")], check=True)


def test_names_that_are_no_text_are_shown_as_text() -> None:
    assert shown(b"a\xff\nb") == "a\\xff\\x0ab"
    shown(os.fsdecode(b"\xff")).encode()
