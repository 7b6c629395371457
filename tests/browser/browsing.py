"""What the browser tests look with, and servers for them to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without these Chromium looks for servers of its maker's at every start.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def serving(home: Path, workers: int) -> Iterator[str]:
    """The URL of a server on a home, with so many workers beside it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", "0", "--workers", str(workers)],
        env={**inherited, "QUANTRANK_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split("ready at ")[1].strip()
    finally:
        server.terminate()
        server.wait(30)
