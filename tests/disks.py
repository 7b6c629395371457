"""Disks that are full, for tests of what then happens."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def fill(folder: Path) -> Path:
    """Writes a file that leaves no room for another byte."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast
