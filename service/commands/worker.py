"""``quantrank worker``."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from qcore.devices import require_device
from searcher.schema import require_current
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

_PARENT_CHECK_SECONDS = 1.0


def run(arguments: Namespace) -> int:
    """Works until SIGTERM or SIGINT; then finishes the epoch it is in and hands its evaluation back."""
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s worker {os.getpid()} %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = load_settings(arguments.device)
    require_device(settings.device, arguments.threads)
    database = settings.open_database()
    require_current(database)
    worker = Worker(
        database,
        WorkerSettings(
            data_root=settings.data_root,
            artifacts=settings.open_artifacts(),
            lease_seconds=settings.lease_seconds,
            device=settings.device,
            threads=arguments.threads,
        ),
    )
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: worker.stop())
    if arguments.exit_with is not None:
        stop_with_parent(arguments.exit_with, worker.stop)
    worker.run()
    return 0


def stop_with_parent(parent: int, stop: Callable[[], None]) -> None:
    """Calls ``stop`` once ``parent``, the process that started this one, is gone; at once if it is gone already."""

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(_PARENT_CHECK_SECONDS)
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
