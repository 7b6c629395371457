"""Processes of this installation's own commands, and where they find their modules: never in the current folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_INSTALLATION = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  as sys.path has it


def own_command(command: str, *arguments: str) -> list[str]:
    """The words that start a ``quantrank`` command as a child of this process, which it does not outlive."""
    return [sys.executable, "-P", "-m", "service", command, "--exit-with", str(os.getpid()), *arguments]


def leave_current_folder_out() -> None:
    """Takes what depends on the current folder off the path of modules, of this process and of all that it starts.

    PYTHONPATH stays in effect, but for its relative entries, an empty one too: they name whatever folder a command
    happens to be run in.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # of children of libraries as well: multiprocessing's, Ray's, torch's compilers
    given = os.environ.get("PYTHONPATH", "")
    entries = given.split(os.pathsep) if given else []
    absolute = [entry for entry in entries if os.path.isabs(entry)]  # noqa: PTH117
    if len(absolute) == len(entries):
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(absolute)
    if not absolute:
        del os.environ["PYTHONPATH"]
    relative = {os.path.abspath(entry) for entry in entries} - set(absolute)  # noqa: PTH100  as sys.path has it
    _take_off_path(relative)


def leave_start_folder_out() -> None:
    """Takes off the path of modules what ``python -m`` has put at its beginning: the current folder."""
    if not sys.flags.safe_path and sys.path:
        _take_off_path({sys.path[0]}, only_first=True)


def _take_off_path(folders: set[str], *, only_first: bool = False) -> None:
    import sysconfig

    places = sysconfig.get_paths()
    needed = {_INSTALLATION, *places.values(), os.path.join(places["platstdlib"], "lib-dynload")}  # noqa: PTH118
    unwanted = folders - needed
    sys.path[:] = [entry for index, entry in enumerate(sys.path) if entry not in unwanted or (only_first and index > 0)]


@contextmanager
def ending_at_signals() -> Iterator[None]:
    """Has SIGTERM and SIGHUP end the block by SystemExit, so that what it started is stopped by whoever started it.

    A second signal ends the process at once. A command that has handlers of its own sets them in the block. Signals
    that the process was started to ignore, as by nohup, stay ignored.
    """
    ours = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    taken = [each for each in ours if signal.getsignal(each) is signal.SIG_DFL]

    def end(number: int, _frame: FrameType | None) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)
        raise SystemExit(128 + number)

    for each in taken:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in taken:
            if signal.getsignal(each) is end:
                signal.signal(each, signal.SIG_DFL)
