"""Worker processes kept alive: one that dies is started again, with growing pauses while it dies at once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0
_SHORT_LIFE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0


class Supervisor:
    """Runs ``quantrank worker`` processes of this installation; ``start`` and ``stop`` once each."""

    def __init__(self, count: int, worker_arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "service", "worker", "--exit-with", str(os.getpid()), *worker_arguments]
        self._count = count
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for index in range(self._count):
            thread = threading.Thread(target=self._keep_alive, args=(index,), name=f"worker-{index}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Asks every worker to end after its epoch; one that takes too long is killed and its lease left to end."""
        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in list(self._processes.values()):
            process.terminate()
        for process in list(self._processes.values()):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in self._threads:
            thread.join()

    def _keep_alive(self, index: int) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            started = time.monotonic()
            process = subprocess.Popen(self._command)  # noqa: S603  our own command
            self._processes[index] = process
            if self._stopping.is_set():  # asked while it was being started
                process.terminate()
            status = process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _SHORT_LIFE_SECONDS:
                pause = 1.0
            log.warning("worker %d ended with status %d; another starts in %.0f s", process.pid, status, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
