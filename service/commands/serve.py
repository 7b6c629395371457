"""``quantrank serve``."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from qcore import InvalidInput
from qcore.devices import check_device_name, require_device
from searcher.api_keys import has_usable_key
from searcher.identity import identity_of
from searcher.schema import require_current, upgrade
from service.access.addresses import is_loopback
from service.access.bootstrap import admit_bootstrap_key
from service.app import create_app
from service.logs import start_logging
from service.patience import ImpatientProtocol
from service.rounds import Rounds
from service.settings import load_settings, unusable_home
from service.supervisor import Supervisor

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from pathlib import Path

    from searcher.database import Database

log = logging.getLogger(__name__)

MOST_WORKERS = 256
_KEEP_ALIVE_SECONDS = 30
_SWITCH_SECONDS = 0.001


def run(arguments: Namespace) -> int:
    """Serves until SIGTERM or SIGINT, with worker processes beside the API."""
    settings = load_settings(arguments.device)
    start_logging("serve", settings.log)
    if not 0 <= arguments.workers <= MOST_WORKERS:
        raise InvalidInput("workers", arguments.workers, "is out of range", f"use 0 to {MOST_WORKERS}")
    if arguments.workers:  # better refused now than by every one of them
        require_device(settings.device, arguments.threads)
        settings.open_artifacts()
    else:  # searches may be posted for what other hosts have
        check_device_name(settings.device, arguments.threads)
    database = settings.open_database()
    if arguments.exit_with is None and settings.server_file.exists() and not os.access(settings.server_file, os.W_OK):
        raise unusable_home(settings.home, f"{settings.server_file.name} in it cannot be written")
    if database.embedded:
        upgrade(database)
    else:
        require_current(database)

    listening = listen(arguments.host, settings.port if arguments.port is None else arguments.port)
    host, port = listening.getsockname()[:2]
    on_loopback = is_loopback(host)
    if settings.bootstrap_key_file is not None:
        admit_bootstrap_key(database, settings.bootstrap_key_file)
    if not on_loopback:
        _require_key(database, arguments.host)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    of_each = ["--device", settings.device, "--threads", str(arguments.threads)]
    supervisor, rounds = Supervisor(database, [of_each] * arguments.workers), Rounds(database)

    def ready() -> None:
        # What was imported stays: looking through it for garbage would hold up a request by a tenth of a second. So
        # would looking through what is remembered of architectures, at every tenth request: of a thousand is enough.
        gc.collect()
        gc.freeze()
        gc.set_threshold(700, 10, 1000)
        # The event loop gives Python's lock away with every send, and waits so long for threads that compute.
        sys.setswitchinterval(_SWITCH_SECONDS)
        if arguments.exit_with is None:  # one that lives for a single command is not for others to use
            _announce(settings.server_file, url)
        print(f"quantrank is ready at {url}", flush=True)
        supervisor.start()
        rounds.start()

    def leaving() -> None:
        supervisor.ask_to_stop()
        app.state.feed.close()

    app = create_app(settings, database, on_loopback=on_loopback)
    app.state.identity = identity_of(database)
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    server = _Server(config, ready, leaving)
    # Uvicorn takes these over while it runs and raises them again when it has shut down, for the handlers it found
    # here: they have to return, and to be heard if they come before it runs.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: setattr(server, "should_exit", True))
    try:
        server.run([listening])
    finally:
        supervisor.stop()
        rounds.stop()
        _withdraw(settings.server_file, url)
        if app.state.lanes.close():
            _end_now()
        database.dispose()
    return 0


def _end_now() -> None:
    """Ends the process beside threads that compute, or wait for a database that does not answer: the interpreter would
    wait for them. What they have not committed is rolled back.
    """
    log.warning("stopped in the middle of requests that nobody waits for any more")
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


class _Server(uvicorn.Server):
    """Uvicorn that says when it answers, and when it is about to stop: it waits for streams to end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], leaving: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._leaving = ready, leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._leaving()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address.

    Raises:
        InvalidInput: where it cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it; asyncio sets it on none, because the socket's protocol is not given. Without it an
    # answer's body waits for the acknowledgement of its headers, which clients delay by 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InvalidInput(
            "port", f"{host}:{port}", f"cannot be listened on ({error})", "choose another with --port, or --port 0"
        ) from error
    return listening


def _require_key(database: Database, host: str) -> None:
    with database.read() as session:
        if has_usable_key(session):
            return
    raise InvalidInput(
        "host",
        host,
        "is reachable from other hosts, and there is no key to let anybody in with",
        "make one with `quantrank keys create NAME --role admin`, or name a file that holds one in "
        "QUANTRANK_BOOTSTRAP_KEY_FILE; or leave --host out, to serve this host alone",
    )


def _announce(server_file: Path, url: str) -> None:
    server_file.parent.mkdir(parents=True, exist_ok=True)
    server_file.write_text(json.dumps({"url": url, "pid": os.getpid()}))


def _withdraw(server_file: Path, url: str) -> None:
    try:
        if json.loads(server_file.read_text()).get("url") == url:  # else another server has announced itself since
            server_file.unlink()
    except (OSError, ValueError):
        pass
