"""Files that commands write where users say."""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from qcore import InvalidInput
from qcore.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path


def write_output(path: Path, content: bytes) -> None:
    """Writes a file; whole or not at all.

    Raises:
        InvalidInput: when it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise _unwritable("output", path, error, "name a file in a folder that exists and can be written") from None


def usable_folder(path: Path) -> None:
    """Makes a folder, if it is not there, and checks that files can be written into it.

    Raises:
        InvalidInput: when they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _unwritable("save", path, error, "name a folder that can be written") from None


def _unwritable(field: str, path: Path, error: OSError, remedy: str) -> InvalidInput:
    return InvalidInput(field, str(path), f"cannot be written ({error.strerror})", remedy)
