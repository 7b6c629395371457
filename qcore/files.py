"""Files written whole or not at all, opened without waiting, and paths that stay below a folder."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file in an existing folder; whole or not at all, whoever else writes or reads.

    Raises:
        OSError: when it cannot be written; what was there before stays.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_regular(path: Path) -> BufferedReader:
    """A regular file, opened for reading, with all symbolic links followed. Waits for nobody.

    Raises:
        OSError: when it cannot be opened, or is a pipe, a device, a socket or a folder.
    """
    _require_regular(path, path.stat())  # before it is opened, which devices notice
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file that is known to have no more bytes.

    Raises:
        OSError: as ``open_regular`` does, and for a larger file.
    """
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"has more than {most_bytes:,} bytes", str(path))
    return content


def shown(path: Path | str | bytes) -> str:
    r"""A path as text that can be stored and printed, whatever bytes its names have.

    >>> print(shown(b"images/n\xfft\n.png"))
    images/n\xfft\x0a.png
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _require_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))


def read_metadata(content: bytes) -> Any:
    """The JSON value that quantrank wrote into a safetensors file, beside the tensors.

    Args:
        content: of a file that safetensors accepts.

    Raises:
        KeyError: when there is none.
        json.JSONDecodeError: when it is not JSON.
    """
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["quantrank"])


def leads_below(path: Path, folder: Path) -> bool:
    """Whether a path, with all symbolic links followed, lies in a folder. A loop of links leads nowhere."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (RuntimeError, ValueError):  # what pathlib raises for loops, and for paths with null characters
        return False
