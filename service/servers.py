"""Finding the server that a client command talks to, or starting one for as long as it is needed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from sqlalchemy.exc import SQLAlchemyError

from qcore import InvalidInput
from searcher.identity import identity_of
from searcher.schema import require_current, require_known
from service.client import Client, ServerError
from service.own_processes import own_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service.settings import Settings

_STOP_SECONDS = 20
_INTERRUPT = signal.SIGUSR1
"""Interrupts a command as Ctrl-C does. SIGINT is ignored by what a script starts in the background."""
_MOST_LOG_BYTES = 10_000_000


class NotRunning(ServerError):  # noqa: N818  a state of affairs
    """A server of a command's own did not start, or ended."""

    def __init__(self, told: str, exit_status: int) -> None:
        super().__init__(told)
        self.exit_status = exit_status


@dataclass(frozen=True)
class OwnServer:
    """A server that lives as long as the command that started it."""

    client: Client
    _process: subprocess.Popen[str]
    _log: _Log

    def check(self, remedy: str) -> None:
        """Raises NotRunning, with the reason and the remedy, if the server has ended."""
        status = self._process.poll()
        if status is not None:
            raise NotRunning(f"the server of this command has ended ({_in_words(status, self._log)}). {remedy}", 1)


def running_server(url: str | None, settings: Settings) -> Client | None:
    """The server at ``url`` or QUANTRANK_URL, whatever it serves; with neither given, one on this host that serves the
    database of these settings, if any does. One of another database is left alone, which is said.
    """
    given = url or settings.url
    if given is not None:
        return Client(given, settings.client_key)
    ours, foreign = _own_identity(settings), None
    announced, usual = _announced(settings), f"http://127.0.0.1:{settings.port}"
    for place in dict.fromkeys(place for place in (announced, usual) if place is not None):
        with Client(place) as asking:
            served = asking.served_database()
        if served is not None and served == ours:
            # Whoever listens at the usual place may be anybody with an account on this host: it is told no key.
            return Client(place, settings.client_key if place == announced else None)
        if served is not None:
            foreign = place
    if foreign is not None:
        own = "QUANTRANK_HOME" if settings.database_url is None else "QUANTRANK_DATABASE_URL"
        told = f"The server at {foreign} does not serve the database of {own}"
        print(f"{told}: it is left alone. To use it, name it with --url or QUANTRANK_URL.", file=sys.stderr)  # noqa: T201
    return None


@contextmanager
def embedded_server(settings: Settings, workers: int, told: str | None = None) -> Iterator[OwnServer]:
    """A server on a free port and the same home, stopped at the end of the block. ``told`` is said if it can be.

    Raises:
        InvalidInput: when the database cannot be used.
        NotRunning: when it does not start.
    """
    database = settings.open_database()
    if database.embedded and settings.has_database:
        require_known(database)
    elif not database.embedded:
        require_current(database)
    database.dispose()
    if told is not None:
        print(told, file=sys.stderr)  # noqa: T201
    log = _Log(settings.home / "logs" / "embedded-server.log")
    command = own_command("serve", "--port", "0", "--workers", str(workers))
    with log.writing() as file:
        server = subprocess.Popen(  # noqa: S603  our own command
            command, stdout=subprocess.PIPE, stderr=file, text=True, start_new_session=True
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "ready at " not in line:
            status = server.wait(_STOP_SECONDS)
            reason = _in_words(status, log)
            raise NotRunning(f"the server of this command did not start ({reason})", 2 if status == 2 else 1)
        with Client(line.split("ready at ")[1].strip()) as client:
            yield OwnServer(client, server, log)
    finally:
        _stop(server)


@contextmanager
def ray_driver(settings: Settings) -> Iterator[None]:
    """Ray on this host, with a driver that places evaluations on it, for as long as the block lasts.

    Should the driver end before, that is said with the reason, and the block is interrupted: nothing would be trained.
    """
    log, stopping = _Log(settings.home / "logs" / "ray.log"), threading.Event()
    with log.writing() as file:
        driver = subprocess.Popen(own_command("ray"), stdout=file, stderr=file, start_new_session=True)  # noqa: S603  ours

    def watch() -> None:
        status = driver.wait()
        if not stopping.is_set():
            told = f"quantrank: the Ray driver of this command has ended ({_in_words(status, log)})"
            print(told, file=sys.stderr, flush=True)  # noqa: T201
            signal.pthread_kill(threading.main_thread().ident or 0, _INTERRUPT)  # even while it waits for the server

    signal.signal(_INTERRUPT, signal.default_int_handler)
    threading.Thread(target=watch, name="driver-watch", daemon=True).start()
    try:
        yield
    finally:
        stopping.set()
        _stop(driver)


class _Log:
    """A file that processes of several commands may write at a time."""

    def __init__(self, path: Path) -> None:
        self.path, self._start = path, 0

    @contextmanager
    def writing(self) -> Iterator[TextIO]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > _MOST_LOG_BYTES:
            self.path.unlink()
        with self.path.open("a") as file:
            self._start = file.tell()
            yield file

    def last_error(self) -> str | None:
        """The last line that was written since, as a person reads it; None if there is none."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._start)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return None
        told = [line.strip() for line in lines if line.strip()]
        of_command = [line.removeprefix("quantrank: ") for line in told if line.startswith("quantrank: ")]
        found = of_command or [_message(line) for line in told]
        return found[-1] if found else None


def _message(line: str) -> str:
    """Of a line of a log, which may be JSON; of an exception, its last line."""
    try:
        fields = json.loads(line)
        return str(fields.get("exception") or fields["message"]).strip().splitlines()[-1]
    except (ValueError, KeyError, AttributeError, IndexError):
        return line


def _in_words(status: int, log: _Log) -> str:
    ended = f"killed by signal {-status}" if status < 0 else f"status {status}"
    reason = None if status < 0 else log.last_error()  # it had no time to say anything
    return ended if reason is None else reason if status == 2 else f"{ended}: {reason}"


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _own_identity(settings: Settings) -> str | None:
    """Of the database of these settings; None where there is none yet, or it cannot be reached."""
    if not settings.has_database:
        return None
    try:
        database = settings.named_database()
        found = identity_of(database)
        database.dispose()
    except (OSError, SQLAlchemyError, InvalidInput):
        return None
    return found


def _announced(settings: Settings) -> str | None:
    try:
        url = json.loads(settings.server_file.read_text())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) and url.startswith("http") else None
