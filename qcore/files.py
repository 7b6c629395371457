"""Files written whole or not at all, and paths that stay below a folder."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

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


def leads_below(path: Path, folder: Path) -> bool:
    """Whether a path, with all symbolic links followed, lies in a folder. A loop of links leads nowhere."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (RuntimeError, ValueError):  # what pathlib raises for loops, and for paths with null characters
        return False
