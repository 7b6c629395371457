"""How long `quantrank --help` and `quantrank serve` take: seconds from start to the last line, and to ready."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

QUANTRANK = [sys.executable, "-m", "service"]
RUNS = 7


def help_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([*QUANTRANK, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def ready_seconds() -> float:
    """On a new home, so migrations are run too."""
    with tempfile.TemporaryDirectory() as home:
        started = time.perf_counter()
        command = ["env", f"QUANTRANK_HOME={home}", *QUANTRANK, "serve", "--port", "0", "--workers", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            server.stdout.readline()
            seconds = time.perf_counter() - started
            server.terminate()
        return seconds


for name, measure in (("quantrank --help", help_seconds), ("quantrank serve, ready", ready_seconds)):
    measure()
    times = [measure() for _ in range(RUNS)]
    print(f"{name:24} median {statistics.median(times):.3f} s, {min(times):.3f} to {max(times):.3f} s ({RUNS} runs)")
