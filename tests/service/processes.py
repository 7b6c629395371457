"""Commands as real processes, in a folder whose modules must not be run, and all that they start."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

QUANTRANK = str(Path(sys.executable).parent / "quantrank")
HOSTILE = (
    "service",
    "qcore/__init__",
    "searcher/__init__",
    "torch",
    "numpy",
    "json",
    "sqlite3",
    "socket",
    "pickle",
    "ray",
)
_TOKEN = "QR_TEST_TOKEN"


def hostile_folder(folder: Path) -> Path:
    """Makes modules there which note that they were run, see ``ran``, and end the process."""
    for name in HOSTILE:
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import os\nopen({str(folder / 'ran')!r}, 'a').write(__name__ + ' ')\nos._exit(3)\n")
    return folder


def ran(folder: Path) -> str:
    """Names of the modules of a hostile folder that were run."""
    marker = folder / "ran"
    return marker.read_text() if marker.exists() else ""


class Started:
    """A command with its descendants, which are known by what they have inherited."""

    def __init__(self, process: subprocess.Popen[str], token: str) -> None:
        self.process, self._token = process, f"{_TOKEN}={token}".encode()

    def processes(self) -> list[int]:
        """Of the command and its descendants, those that are alive."""
        found = []
        for each in Path("/proc").iterdir():
            try:
                if each.name.isdigit() and self._token in (each / "environ").read_bytes().split(b"\0"):
                    found.append(int(each.name))
            except OSError:
                continue  # gone meanwhile
        return found

    def count(self, words: str, library: str = "") -> int:
        """How many of them have the words in their command line, and have loaded the library."""
        return sum(library in _read(each, "maps") for each in self.processes_of(words))

    def processes_of(self, words: str) -> list[int]:
        return [each for each in self.processes() if words in _read(each, "cmdline").replace("\0", " ")]


@contextmanager
def started(
    arguments: list[str], environment: dict[str, str], folder: Path, *, ignored: Collection[int] = ()
) -> Iterator[Started]:
    """A quantrank command run in a folder; nothing of it is left after the block.

    It is started as from a terminal, whatever signals the tests themselves ignore, but for the ``ignored`` ones.
    """
    token = secrets.token_hex(8)

    def heed() -> None:
        for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(each, signal.SIG_IGN if each in ignored else signal.SIG_DFL)

    with (folder / "told").open("w") as told:
        process = subprocess.Popen(
            [QUANTRANK, *arguments],
            env={**environment, _TOKEN: token},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            preexec_fn=heed,
        )
    command = Started(process, token)
    try:
        yield command
    finally:
        for each in command.processes():
            os.kill(each, 9)
        process.wait(60)


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)


def _read(process: int, file: str) -> str:
    try:
        return Path(f"/proc/{process}/{file}").read_text()
    except OSError:
        return ""
