"""The cluster that trials run on: connecting to it, and what it has room for."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import sysconfig
from contextlib import chdir
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qcore import InvalidInput
from qcore.devices import usable_cores
from searcher.ray_tune.leftovers import end_with_this_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from searcher.database import Database

_ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[^\s:/@]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})", re.ASCII)
_CONNECT_SECONDS = 5.0
_LOCAL_OBJECT_STORE_BYTES = 100_000_000
"""Nothing large goes through Ray: networks lie among the artifacts, results in the database."""


@dataclass(frozen=True)
class Share:
    """Of a node, for each trial."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    """None: as measured before or estimated, for each evaluation."""


def connect(address: str, database: Database) -> None:
    """Starts Ray on this host (``local``), or joins a cluster: the one running here (``auto``), or that at an address.

    Raises:
        InvalidInput: when there is no Ray, or no cluster at the address; and for other hosts with an SQLite database,
            which only this one can use.
    """
    parts = _ADDRESS.fullmatch(address)
    if address not in ("local", "auto") and parts is None:
        raise InvalidInput(
            "address", address, "is not an address", "use local, auto, <host>:<port> or ray://<host>:10001"
        )
    if address.startswith("ray://"):
        _require_shared(database, address)
    if parts is not None:
        _require_reachable(address, parts["host"].strip("[]"), int(parts["port"]))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray

        if address.startswith("ray://"):
            importlib.import_module("grpc")  # which only Ray's client needs
    except ImportError as error:
        raise InvalidInput(
            "address", address, f"needs Ray, which cannot be imported ({error})", 'pip install "ray[client,tune]"'
        ) from None
    options: dict[str, Any] = {"logging_level": logging.WARNING}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _LOCAL_OBJECT_STORE_BYTES}
        options |= {"num_cpus": usable_cores()}
        end_with_this_process()
    try:
        # Ray puts the folder that this is called in on the path of modules of every process of the cluster.
        with chdir(sysconfig.get_path("purelib")):
            ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InvalidInput(
            "address",
            address,
            f"is no cluster to join ({str(error).splitlines()[0]})",
            "start one with `ray start --head`, with the same versions of Ray and Python, or use --address local",
        ) from None
    if any(node["NodeManagerHostname"] != socket.gethostname() for node in nodes()):
        try:
            _require_shared(database, address)
        except InvalidInput:
            ray.shutdown()
            raise


def nodes() -> list[dict[str, Any]]:
    """The cluster's nodes that are alive."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def slots(share: Share, resources: Iterable[Mapping[str, float]]) -> int:
    """How many trials nodes with such resources have room for at once."""
    wanted = {"CPU": share.cpus, "GPU": share.gpus, "memory": share.memory_bytes or 0}
    needed = {name: amount for name, amount in wanted.items() if amount}
    return sum(min(int(node.get(name, 0) / amount + 1e-9) for name, amount in needed.items()) for node in resources)


def _require_shared(database: Database, address: str) -> None:
    if database.embedded:
        raise InvalidInput(
            "address",
            address,
            "is a cluster of other hosts, which cannot use this host's SQLite database",
            "set QUANTRANK_DATABASE_URL to PostgreSQL, or use --address local",
        )


def _require_reachable(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InvalidInput(
            "address", address, f"does not answer ({error})", "start it with `ray start --head`, or correct the address"
        ) from None
