"""Finding the server that a client command talks to, or starting one for as long as it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.client import Client, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings

_STOP_SECONDS = 20


def running_server(url: str | None, settings: Settings) -> Client | None:
    """The server at ``url`` or QUANTRANK_URL, or, with neither given, the one running on this host, if any."""
    given = url or settings.url
    if given is not None:
        return Client(given, settings.client_key)
    announced = _announced(settings)
    if announced is not None and (client := Client(announced, settings.client_key)).is_up():
        return client
    # Whoever listens there may be anybody with an account on this host: it is told no key.
    client = Client(f"http://127.0.0.1:{settings.port}")
    return client if client.is_up() else None


@contextmanager
def embedded_server(settings: Settings, workers: int) -> Iterator[Client]:
    """A server on a free port and the same home, stopped at the end of the block.

    Raises:
        ServerError: when it does not start.
    """
    settings.open_database().dispose()  # refuses an unusable home
    log_file = settings.home / "logs" / "embedded-server.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--exit-with", str(os.getpid())]
    with log_file.open("w") as log:
        server = subprocess.Popen(  # noqa: S603  our own command
            [*command, "--workers", str(workers)], stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "ready at " not in line:
            raise ServerError(f"the embedded server did not start; see {log_file}")
        with Client(line.split("ready at ")[1].strip()) as client:
            yield client
    finally:
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextmanager
def ray_driver(settings: Settings) -> Iterator[None]:
    """Ray on this host, with a driver that places evaluations on it, for as long as the block lasts."""
    log_file = settings.home / "logs" / "ray.log"
    command = [sys.executable, "-m", "service", "ray", "--exit-with", str(os.getpid())]
    with log_file.open("w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603  our own
    try:
        yield
    finally:
        driver.terminate()
        try:
            driver.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()


def _announced(settings: Settings) -> str | None:
    try:
        url = json.loads(settings.server_file.read_text())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) and url.startswith("http") else None
