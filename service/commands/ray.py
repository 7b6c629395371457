"""``quantrank ray``."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from qcore import InvalidInput
from qcore.devices import check_device_name
from searcher.ray_tune.cluster import Share, connect, nodes, slots
from searcher.ray_tune.driver import Driver
from searcher.schema import require_current
from service.commands.worker import stop_when_told
from service.logs import start_logging
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Has Ray Tune place evaluations until SIGTERM or SIGINT; then its trials finish their epoch and hand them back."""
    settings = load_settings(arguments.device)
    start_logging("ray", settings.log)
    check_device_name(settings.device, 1)  # the nodes' devices are not this host's
    share = _share(arguments, settings.device)
    database = settings.open_database()
    require_current(database)
    connect(arguments.address, database)
    resources = [node["Resources"] for node in nodes()]
    room = slots(share, resources)
    log = logging.getLogger(__name__)
    log.info("connected to a cluster of %d nodes with room for %d evaluations at once", len(resources), room)
    if room == 0:
        log.warning("no node has what one evaluation is to get: waiting for one that has")
    driver = Driver(
        database,
        settings.for_workers(arguments.threads),
        share,
    )
    stop_when_told(driver.stop)  # after Ray has started, which has a handler of its own for one signal
    driver.run()
    return 0


def _share(arguments: Namespace, device: str) -> Share:
    """What each evaluation gets of a node: a core for each thread and, with a GPU, all of it, if not told otherwise."""
    cpus = arguments.threads if arguments.cpus_per_trial is None else arguments.cpus_per_trial
    gpus = arguments.gpus_per_trial
    if gpus is None:
        gpus = 0.0 if device == "cpu" else 1.0
    memory = arguments.memory_per_trial
    if not 1 <= arguments.threads <= 1024:
        raise InvalidInput("threads", arguments.threads, "is out of range", "use 1 to 1024")
    if not 0 < cpus < math.inf:
        raise InvalidInput("cpus-per-trial", cpus, "is no share of a node's cores", "use e.g. 1, or 0.5")
    if not 0 <= gpus <= 1:
        raise InvalidInput("gpus-per-trial", gpus, "is no share of a GPU", "use 0 to 1, as `quantrank packing` says")
    if gpus and device == "cpu":
        raise InvalidInput("gpus-per-trial", gpus, "is for training on a GPU", "add --device cuda, or leave it out")
    if not gpus and device != "cpu":
        raise InvalidInput("gpus-per-trial", gpus, f"leaves no GPU for --device {device}", "use more than 0, at most 1")
    if memory is not None and not 0 < memory <= 2**20:
        raise InvalidInput("memory-per-trial", memory, "is no number of gigabytes", "use e.g. 2, or 0.8")
    return Share(cpus, gpus, None if memory is None else round(memory * 1e9))
