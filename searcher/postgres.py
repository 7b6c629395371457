"""Connections to PostgreSQL that do not wait for ever: neither for a server that accepts and never answers (its
container paused, a network that swallows packets), nor longer than somebody waits for the answer.

A statement may take as long as it needs while the server lives. Who has heard nothing for a while asks whether it does,
by another connection: a paused server does not let that one in.
"""

from __future__ import annotations

import math
import select
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import errors

from searcher.deadline import seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

R = TypeVar("R")

CONNECT_SECONDS = 5
_PROBE_SECONDS = 2
"""libpq's least."""
_SILENT_SECONDS = 2.0
_JUST_SECONDS = 1.0
_AWAY_SECONDS = 1.0
"""How long nobody tries again after a server did not answer; then one does, and the others wait for what it finds."""

OPTIONS: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
"""Of libpq, where a URL says nothing else: a host that is gone is noticed, too."""


class Pulse:
    """Whether one server answers, as all connections to it know. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._answers = True

    def connect(self, given: dict[str, Any]) -> WatchedConnection:
        """A new connection; none is tried for a moment after the server did not answer, and then one at a time.

        Raises:
            psycopg.OperationalError: when there is none to be had.
        """
        if self._answers:
            return self._connected(given)
        is_mine = time.monotonic() - self._asked_at >= _AWAY_SECONDS and self._lock.acquire(blocking=False)
        if not is_mine:
            raise _silent()
        try:
            return self._connected(given | {"connect_timeout": _PROBE_SECONDS})
        finally:
            self._lock.release()

    def check(self, given: dict[str, Any]) -> None:
        """Asks the server whether it lets anybody in; who asks meanwhile is told what comes of it.

        Raises:
            psycopg.OperationalError: when it does not answer.
        """
        came = time.monotonic()
        with self._lock:
            if self._asked_at < came:
                try:
                    psycopg.connect(**given | {"connect_timeout": _PROBE_SECONDS}).close()
                except psycopg.OperationalError as error:
                    self._note(error)  # one that refuses lives
                else:
                    self._note(None)
            if not self._answers:
                raise _silent()

    def _connected(self, given: dict[str, Any]) -> WatchedConnection:
        try:
            connection = WatchedConnection.connect(**given)
        except psycopg.OperationalError as error:
            self._note(error)
            raise
        self._note(None)
        connection.alive = lambda: self.check(given)
        return connection

    def _note(self, error: psycopg.OperationalError | None) -> None:
        self._answers, self._asked_at = not isinstance(error, errors.ConnectionTimeout), time.monotonic()


class WatchedConnection(psycopg.Connection[Any]):
    """A connection whose statements end with the server, and with the deadline of whoever waits for them."""

    alive: Callable[[], None] | None = None
    """Raises OperationalError where the server does not answer."""
    _is_ending = False
    _heard_at = -math.inf

    def is_alive(self) -> bool:
        """Whether the server has answered by this connection, which is at rest, a moment ago and said nothing since.

        It need not be asked then whether it lives. One that ends says so, or hangs up.
        """
        if time.monotonic() - self._heard_at >= _JUST_SECONDS:
            return False
        looking = select.poll()
        looking.register(self.pgconn.socket, select.POLLIN)
        return not looking.poll(0)

    def wait(self, gen: Generator[Any, Any, R], *given: Any, **named: Any) -> R:
        """Waits for what a generator of psycopg's does, as the method that it takes the place of."""
        return super().wait(self._watched(gen), *given, **named)

    def commit(self) -> None:
        """Ends the transaction; whether that has happened is worth waiting for."""
        self._is_ending = True
        try:
            super().commit()
        finally:
            self._is_ending = False

    def _watched(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        heard_at, has_heard, is_cancelled = time.monotonic(), False, False
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard_at, has_heard = time.monotonic(), True
                elif not is_cancelled and not self._is_ending and seconds_left() == 0.0:
                    is_cancelled = True
                    self._cancel()
                elif time.monotonic() - heard_at >= _SILENT_SECONDS:
                    self._check()
                    heard_at = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as ended:
            if has_heard:  # some ask the server nothing
                self._heard_at = heard_at
            result: R = ended.value
            return result

    def _cancel(self) -> None:
        """Has the server end the statement, which then says so."""
        try:
            self.cancel_safe(timeout=_PROBE_SECONDS)
        except psycopg.Error:
            self._check()

    def _check(self) -> None:
        if self.alive is None:
            return
        try:
            self.alive()
        except psycopg.OperationalError:
            self.pgconn.finish()
            raise


def _silent() -> psycopg.OperationalError:
    return errors.ConnectionTimeout("the server does not answer")
