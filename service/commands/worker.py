"""``quantrank worker``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import InvalidInput
from qcore.devices import gpus, require_device, take_share, usable_cores
from searcher.proof import prove
from searcher.schema import require_current
from searcher.worker import DeviceFailed, Worker
from service.logs import start_logging
from service.settings import load_settings
from service.stopping import StopsInTime, hear_signals
from service.supervisor import Supervisor

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from searcher.database import Database
    from service.settings import Settings

MOST_PROCESSES = 256


def run(arguments: Namespace) -> int:
    """Works until SIGTERM or SIGINT; then finishes the step it is in and hands its evaluation back.

    Of several processes, this one is the parent: it starts again what dies, and ends when all have ended.
    """
    settings = load_settings(arguments.device)
    if arguments.check:
        return _check(settings, arguments.threads, as_json=arguments.json)
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
        return 0
    return _work(arguments, settings, database)


def _check(settings: Settings, threads: int, *, as_json: bool) -> int:
    """Prints the proof that a worker makes before it claims."""
    from service.output import print_json

    proof = prove(settings.for_workers(threads), anew=True)
    if as_json:
        print_json({"fit": proof.problem is None, "checks": [asdict(each) for each in proof.checks]})
    else:
        for each in proof.checks:
            print(f"{'works' if each.problem is None else 'FAILS'}  {each.name}: {each.problem or each.found}")
        if not proof.holds:
            print(
                "A worker here would be unfit."
                if proof.problem
                else "A worker here would train by the path plain only."
            )
    return 0 if proof.holds else 1


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
        problem = f"for each of {processes} processes are more than the {cores} cores that are usable here"
        raise InvalidInput("threads", threads, problem, f"use {max(1, cores // processes)}, or fewer processes")


def _work(arguments: Namespace, settings: Settings, database: Database) -> int:
    if arguments.cores is not None:
        take_share(arguments.cores)
    worker = Worker(
        database,
        settings.for_workers(arguments.threads, max(1, arguments.processes)),
        worker_id=arguments.id,
        hangs=_end_process,
    )
    stopping = StopsInTime(worker)
    stop_when_told(stopping.stop)
    try:
        worker.run()
    except DeviceFailed as error:
        print(f"quantrank: this worker ends, for a new one to begin: {error}", file=sys.stderr)
        return 1
    finally:
        stopping.ended()
    return 0


def _end_process() -> None:
    logging.shutdown()
    os._exit(1)


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
    """Calls ``stop`` at SIGTERM, SIGINT and SIGHUP, whatever the main thread is at."""
    hear_signals(stop)
