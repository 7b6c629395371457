"""How processes hear that they are to stop, whatever the main thread is at."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from searcher.worker import Worker

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STEP_SECONDS = 3.0
"""How long a worker may take to come to the end of its step."""
_STOP_SECONDS = 8.0
"""After which a worker that was told to stop has ended, whatever it is at: `docker stop` kills after 10."""


def hear_signals(told: Callable[[], None]) -> None:
    """Calls ``told``, once, in a thread of its own, at the first SIGTERM, SIGINT or SIGHUP; later ones change nothing.

    Python's own handlers run in the main thread between two of its instructions, and so never while it imports a module
    or waits for a file. Call this from the main thread.
    """
    reading, writing = socket.socketpair()
    os.set_blocking(writing.fileno(), False)
    for each in _SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(each, lambda *_: None)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)

    def hear() -> None:
        with reading, writing:
            while True:
                if set(reading.recv(64)) & set(_SIGNALS):  # others have handlers too
                    told()
                    break
            while reading.recv(64):
                pass

    threading.Thread(target=hear, name="signals", daemon=True).start()


class StopsInTime:
    """Stops a worker when asked, and ends the process if the worker's thread takes too long.

    What the worker holds is handed back then by another thread: whatever its own would still write is refused.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._ended = threading.Event()

    def ended(self) -> None:
        """Says that the worker has come to its end by itself."""
        self._ended.set()

    def stop(self) -> None:
        """Does not return unless the worker's thread comes to its end in time."""
        begun = time.monotonic()
        self._worker.stop()
        if self._ended.wait(_STEP_SECONDS):
            return
        log.warning("what this worker is at takes longer than %.0f s: what it holds is handed back", _STEP_SECONDS)
        done = threading.Event()

        def hand_back() -> None:
            if self._worker.end():
                done.set()

        threading.Thread(target=hand_back, daemon=True).start()
        is_back = done.wait(max(0.0, begun + _STOP_SECONDS - time.monotonic()))
        is_left = self._worker.may_hold and not is_back
        if is_left:
            log.error("the database does not answer: what this worker holds is left to its lease")
        logging.shutdown()
        os._exit(1 if is_left else 0)
