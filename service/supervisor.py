"""Worker processes kept alive: one that dies, or cannot be started, is started again, with growing pauses while it does
not live long.
"""

from __future__ import annotations

import logging
import secrets
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from qcore.devices import usable_cores
from qcore.limits import memory_kills
from qcore.memory import device_bytes
from searcher import leases, workers
from service.own_processes import own_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from searcher.database import Database

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""After which a worker that was asked to stop is killed: it has ended by itself before, if it can."""
_LAST_WRITE_SECONDS = 1.0
"""How long it may take to store that a worker has ended: its lease ends by itself, too."""
_FIRST_PAUSE_SECONDS = 1.0
_SHORT_LIFE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0


class Supervisor:
    """Runs ``quantrank worker`` processes of this installation; ``start`` and ``stop`` once each.

    What a worker holds that died is free for others at once: its lease need not end first. The host's cores are divided
    among the workers, for the processes that decode images for them; threads are theirs to say.
    """

    def __init__(self, database: Database, worker_arguments: Sequence[Sequence[str]]) -> None:
        """One process for each of the lists of arguments."""
        processes = max(1, len(worker_arguments))
        cores = max(1, usable_cores() // processes)
        self._command = own_command("worker", "--cores", str(cores), "--processes", str(processes))
        self._database, self._worker_arguments = database, worker_arguments
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for index in range(len(self._worker_arguments)):
            thread = threading.Thread(target=self._keep_alive, args=(index,), name=f"worker-{index}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def ask_to_stop(self) -> None:
        """Asks every worker to end after its step; a second time too, those that have been started meanwhile."""
        self._stopping.set()
        for process in list(self._processes.values()):
            process.terminate()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Asks every worker to end after its step, and waits; one that takes longer than ``seconds`` is killed."""
        self.ask_to_stop()
        deadline = time.monotonic() + seconds
        for process in list(self._processes.values()):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        last = time.monotonic() + _LAST_WRITE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, last - time.monotonic()))

    def _keep_alive(self, index: int) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                told = self._run_one(index)
            except Exception as error:  # its program is away, no process may be made, ...: that may pass
                told = f"no worker could be started ({error})"
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _SHORT_LIFE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            log.warning("%s; another starts in %.0f s", told, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _run_one(self, index: int) -> str:
        """Runs a worker to its end, of which it says something."""
        worker_id = secrets.token_hex(16)
        command = [*self._command, "--id", worker_id, *self._worker_arguments[index]]
        kills = memory_kills()
        process = subprocess.Popen(command)  # noqa: S603  our own command
        self._processes[index] = process
        if self._stopping.is_set():  # asked while it was being started
            process.terminate()
        status = process.wait()
        if status != 0:
            self._bury(worker_id)
        return f"worker {process.pid} {_in_words(status, kills)}"

    def _bury(self, worker_id: str) -> None:
        """Frees what a worker held; it counts as an attempt unless the worker was asked to stop."""
        try:
            with self._database.write() as session:
                if self._stopping.is_set():
                    leases.release_all(session, worker_id)
                else:
                    leases.end_leases(session, worker_id)
                workers.end(session, worker_id)
        except SQLAlchemyError as error:
            log.warning("the lease of a worker that died is left to end by itself: %s", error)


def _in_words(status: int, kills_before: int | None) -> str:
    """How a worker ended, and why, if the kernel tells."""
    if status != -signal.SIGKILL:
        return f"ended with status {status}"
    kills = memory_kills()
    total = device_bytes("cpu")
    limit = "" if total is None else f" (this machine, or container, has {total / 1e9:.1f} GB)"
    if kills is not None and kills_before is not None and kills > kills_before:
        return f"was killed by the kernel for want of memory{limit}: give it more, or start fewer workers"
    return f"was killed (signal 9): if nobody did, the kernel has for want of memory{limit}"
