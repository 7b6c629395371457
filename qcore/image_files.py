"""Image files, opened with bounded memory and time whatever they hold: decoded, or looked at by their headers alone."""

from __future__ import annotations

import io
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from PIL import Image, ImageOps, UnidentifiedImageError

from qcore.files import open_regular
from qcore.memory_limit import at_most

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP", "TGA")
"""Decoded by libraries; others start a program, as EPS does. TGA has no mark to be known by: it is tried last."""
MOST_BYTES = 2**28
MOST_PIXELS = 2**25
"""Of an image as it is decoded: 33 million, 134 MB in RGB, and as many again while they are converted."""
MOST_PIXELS_OF = {"AVIF": 2**24, "JPEG2000": 2**24, "WEBP": 2**24}
"""Of formats whose decoders keep several copies."""
MOST_REDUCED_PIXELS = 2**27
"""Of a baseline JPEG that is decoded at a fraction of its size."""
MOST_MEMORY = 2**29
"""Bytes that decoding may take. Images within the other limits need less, unless they lie about themselves."""
MOST_SCANS = 500
"""Of a JPEG: a decoder goes through the whole image for each."""
_MOST_HEADER_BYTES, _MOST_HEADER_READS = 2**23, 2**16
_MOST_TIFF_ENTRIES, _MOST_TIFF_VALUES = 2**16, 2**17
"""The latter of one entry that is no text or bytes; strips and tiles are such values."""
_BYTES_LIKE = (1, 2, 7)
"""TIFF's types of entries that stay as they are in the file."""
_READ_WHOLE = (b"RIFF", b"ftyp", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Beginnings of WEBP, AVIF and TIFF: their headers may be anywhere in the file."""


class UnreadableImage(Exception):  # noqa: N818  a state of affairs, not a fault
    """Why a file is no image that is read, in words that follow the file's name."""


def check_image(path: Path, least_side: int | None = None, most_side: int | None = None) -> str:
    """Looks at an image's header: the mode (PIL's) of its pixels. ``read_image`` may still find them damaged.

    Raises:
        UnreadableImage: as ``read_image`` does for what the header tells.
    """
    with _explained(), open_regular(path) as file:
        return _opened(file, least_side, most_side).mode


def read_image(path: Path, least_side: int | None = None, most_side: int | None = None) -> Image.Image:
    """An image, decoded, in the mode it has.

    Args:
        path: of a regular file, symbolic links followed.
        least_side: turns it as its EXIF data says, and decodes a JPEG at 1/2, 1/4 or 1/8 of its size, but no smaller
            than this.
        most_side: refuses larger ones.

    Raises:
        UnreadableImage: for what is no regular file, no image of ``FORMATS``, damaged or too large.
    """
    with _explained(), open_regular(path) as file, at_most(MOST_MEMORY):
        image = _opened(file, least_side, most_side)
        if image.format in ("JPEG", "MPO"):
            _check_scans(file)
        image.load()
        if least_side is not None:
            ImageOps.exif_transpose(image, in_place=True)
        return image


def _opened(file: BinaryIO, least_side: int | None, most_side: int | None) -> Image.Image:
    """An image whose header was read and is within the limits."""
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        raise UnreadableImage("is empty")
    if size > MOST_BYTES:
        raise UnreadableImage(f"has {size:,} bytes; at most {MOST_BYTES:,} are read")
    file.seek(0)
    start = file.read(12)
    if start[:2] in (b"II", b"MM"):
        _check_tiff(file)
    file.seek(0)
    is_whole = start.startswith(_READ_WHOLE) or start[4:8] in _READ_WHOLE
    counted = _CountedReads(file, MOST_BYTES if is_whole else _MOST_HEADER_BYTES)
    image = Image.open(cast("BinaryIO", counted), formats=FORMATS)
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImage("has no pixels")
    if most_side is not None and max(width, height) > most_side:
        raise UnreadableImage(f"{width}x{height} pixels exceed {most_side}")
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no stated range")
    _check_pixels(image, least_side)
    counted.are_limited = False
    return image


def _check_pixels(image: Image.Image, least_side: int | None) -> None:
    """Refuses an image that is too large to be decoded, at a fraction of its size if it can be."""
    width, height = image.size
    most = MOST_PIXELS_OF.get(image.format or "", MOST_PIXELS)
    if least_side is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (least_side, least_side))
        if "progressive" not in image.info and width * height <= MOST_REDUCED_PIXELS:
            width, height = image.size
    if width * height > most:
        raise UnreadableImage(f"has {width}x{height} pixels; of {image.format}, at most {most:,} are read")


def _check_tiff(file: BinaryIO) -> None:
    """Refuses a TIFF with so many values in an entry of its first directory that to list them would fill memory."""
    file.seek(0)
    start = file.read(16)
    order = "<" if start[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(f"{order}H", start, 2)
    is_big = magic == 43
    place, count_of_entries, entry = ("8xQ", "Q", "HHQ8x") if is_big else ("4xI", "H", "HHI4x")
    (offset,) = struct.unpack_from(order + place, start)
    file.seek(offset)
    (number,) = struct.unpack(order + count_of_entries, file.read(struct.calcsize(order + count_of_entries)))
    if number > _MOST_TIFF_ENTRIES:
        raise UnreadableImage(f"is a TIFF with {number:,} entries")
    for _ in range(number):
        _, kind, count = struct.unpack(order + entry, file.read(struct.calcsize(order + entry)))
        if kind not in _BYTES_LIKE and count > _MOST_TIFF_VALUES:
            raise UnreadableImage(
                f"is a TIFF with {count:,} values in one entry; at most {_MOST_TIFF_VALUES:,} are read"
            )


def _check_scans(file: BinaryIO) -> None:
    """Refuses a JPEG that would be decoded again and again; the file's position stays."""
    place, scans, last = file.tell(), 0, b""
    file.seek(0)
    while part := file.read(2**20):
        scans += (last + part).count(b"\xff\xda")
        last = part[-1:] if part[-1:] == b"\xff" else b""
    file.seek(place)
    if scans > MOST_SCANS:
        raise UnreadableImage(f"is a JPEG of {scans:,} scans; at most {MOST_SCANS} are read")


class _CountedReads:
    """A file of which no more than so many bytes are read while its header is, in a limited number of reads."""

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file, self._bytes, self._reads = file, most_bytes, _MOST_HEADER_READS
        self.are_limited = True

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size if not self.are_limited or 0 <= size <= self._bytes else self._bytes + 1)
        if self.are_limited:
            self._bytes -= len(found)
            self._reads -= 1
            if self._bytes < 0 or self._reads < 0:
                raise _EndlessHeader
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _EndlessHeader(Exception):  # noqa: N818  PIL takes ordinary errors for those of another format
    pass


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what opening, and whatever decoders are led to by damaged files, raise into one kind of error."""
    try:
        yield
    except UnreadableImage:
        raise
    except _EndlessHeader:
        raise UnreadableImage("has no end of its header") from None
    except UnidentifiedImageError:
        raise UnreadableImage(f"is no image, or damaged, or none of {', '.join(FORMATS)}") from None
    except MemoryError:
        raise UnreadableImage(f"takes more than {MOST_MEMORY // 2**20} MiB to decode") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(f"has too many pixels; at most {MOST_PIXELS:,} are read") from None
    except OSError as error:
        if error.errno is not None:
            raise UnreadableImage(f"cannot be read: {error.strerror}") from None
        raise UnreadableImage(f"is damaged or cut short: {error}") from None
    except Exception as error:  # a decoder's own, of which users know nothing
        raise UnreadableImage("is damaged or cut short") from error
