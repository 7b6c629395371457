"""Files written whole or not at all, what they say of themselves, and paths that stay below a folder."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
