"""What a local Ray leaves behind: its agents go on for a minute after a driver that was killed. A process ends them."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

_MARK = "QUANTRANK_RAY_OF"
_LOOK_SECONDS, _GRACE_SECONDS = 0.5, 5.0


def end_with_this_process() -> None:
    """Has all that this process starts from now on, and that inherits its environment, end soon after it."""
    token = secrets.token_hex(8)
    command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), token]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603  our own command
    os.environ[_MARK] = token


def marked(token: str) -> list[int]:
    """Processes of this user that have inherited the token."""
    found, mark = [], f"{_MARK}={token}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue  # gone meanwhile, or another user's
    return found


def _main(parent: int, token: str) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends with its parent, and not before
        signal.signal(each, signal.SIG_IGN)
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    ends = time.monotonic() + _GRACE_SECONDS
    while marked(token) and time.monotonic() < ends:
        time.sleep(_LOOK_SECONDS)
    for process in marked(token):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
