"""``quantrank worker``."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from qcore import InvalidInput
from qcore.devices import gpus, require_device, take_share, usable_cores
from searcher.schema import require_current
from searcher.worker import Worker
from service.logs import start_logging
from service.settings import load_settings
from service.supervisor import Supervisor

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from searcher.database import Database
    from service.settings import Settings

MOST_PROCESSES = 256


def run(arguments: Namespace) -> int:
    """Works until SIGTERM or SIGINT; then finishes the epoch it is in and hands its evaluation back.

    Of several processes, this one is the parent: it starts again what dies, and ends when all have ended.
    """
    settings = load_settings(arguments.device)
    devices = _devices(arguments, settings)
    for device in devices:
        require_device(device, arguments.threads)  # better refused now than by every process
    _check_concurrency(arguments.concurrency, arguments.threads, devices)
    several = arguments.all_gpus or arguments.concurrency > 1
    name = "workers" if several else "worker"
    start_logging(f"{name} {os.getpid()}", settings.log)
    database = settings.open_database()
    require_current(database)
    if several:
        _supervise(arguments, devices, database)
    else:
        _work(arguments, settings, database)
    return 0


def _devices(arguments: Namespace, settings: Settings) -> list[str]:
    if not arguments.all_gpus:
        return [settings.device]
    if arguments.device is not None:
        raise InvalidInput("device", arguments.device, "is one, and --all-gpus takes every GPU", "give one of the two")
    return gpus()


def _check_concurrency(concurrency: int, threads: int, devices: list[str]) -> None:
    if not 1 <= concurrency <= MOST_PROCESSES:
        raise InvalidInput("concurrency", concurrency, "is out of range", f"use 1 to {MOST_PROCESSES}")
    processes, cores = concurrency * len(devices), usable_cores()
    if threads > 1 and processes * threads > cores:
        problem = f"for each of {processes} processes are more than the {cores} cores of this machine"
        raise InvalidInput("threads", threads, problem, f"use {max(1, cores // processes)}, or fewer processes")


def _work(arguments: Namespace, settings: Settings, database: Database) -> None:
    if arguments.cores is not None:
        take_share(arguments.cores)
    worker = Worker(
        database,
        settings.for_workers(arguments.threads),
        worker_id=arguments.id,
    )
    stop_when_told(worker.stop)
    worker.run()


def _supervise(arguments: Namespace, devices: list[str], database: Database) -> None:
    of_each = [["--device", device, "--threads", str(arguments.threads)] for device in devices]
    supervisor = Supervisor(database, of_each * arguments.concurrency)
    stopping = threading.Event()
    stop_when_told(stopping.set)
    supervisor.start()
    stopping.wait()
    supervisor.stop()
    database.dispose()


def stop_when_told(stop: Callable[[], None]) -> None:
    """Calls ``stop`` at SIGTERM, SIGINT and SIGHUP."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(each, lambda *_: stop())
