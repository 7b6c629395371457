"""File systems of their own, which tests mount."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def mounting() -> Iterator[Callable[..., None]]:
    """Mounts a file system in a folder, with options as ``size=4096`` and ``noexec``, until the block ends."""
    with ExitStack() as stack:

        def mounted(folder: Path, *options: str) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
            try:
                subprocess.run(command, capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)

        yield mounted


def remount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{','.join(options)}", str(folder)], capture_output=True, check=True)
