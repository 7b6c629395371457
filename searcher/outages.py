"""Databases that are away, busy or full: what their errors mean, and waiting until they answer again."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import Session

    from searcher.database import Database

R = TypeVar("R")

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5
_ECHO_SECONDS = 2.0
_pause = threading.Event()
_LOCKED = frozenset({"55P03", "57014", "40001", "40P01"})
"""Of PostgreSQL: a lock that did not come, a statement that took too long, transactions in each other's way."""
_FULL = frozenset({"53100", "53000"})
_AWAY = ("08", "53", "57P", "58", "25006", "XX")
"""Beginnings: connections, resources, shutdowns, its surroundings, a replica that takes no writes, its own faults."""


def is_busy(error: DBAPIError) -> bool:
    """Whether others hold what a transaction needs: the same is worth another try."""
    found = error.orig
    if isinstance(found, sqlite3.Error):
        return _primary(found) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)
    return getattr(found, "sqlstate", None) in _LOCKED


def is_full(error: DBAPIError) -> bool:
    """Whether there is no room left where the database is."""
    found = error.orig
    if isinstance(found, sqlite3.Error):
        return _primary(found) == sqlite3.SQLITE_FULL
    return getattr(found, "sqlstate", None) in _FULL


def is_away(error: DBAPIError) -> bool:
    """Whether the database cannot be reached, or cannot work now."""
    found = error.orig
    if isinstance(found, sqlite3.Error):
        return _primary(found) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
    state = getattr(found, "sqlstate", None)
    if state is None:  # the connection broke, or did not come to be
        return type(found).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")
    return str(state).startswith(_AWAY)


def _primary(error: sqlite3.Error) -> int:
    """SQLite's error code without what it adds to it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


class Outage:
    """Whether a database is away, as this process has found. Safe to share between threads."""

    def __init__(self) -> None:
        self._is_on, self._ended_at = False, -_ECHO_SECONDS

    def begin(self, error: SQLAlchemyError) -> None:
        """Notes that the database has not answered."""
        # Another thread may have been refused just before this one was answered.
        if not self._is_on and time.monotonic() - self._ended_at >= _ECHO_SECONDS:
            self._is_on = True
            told = str(getattr(error, "orig", error)).strip().partition("\n")[0]
            log.warning("the database does not answer; waiting for it: %s", told)

    def end(self) -> None:
        """Notes that it has."""
        if self._is_on:
            self._is_on, self._ended_at = False, time.monotonic()
            log.warning("the database answers again")


def patiently(database: Database, write: Callable[[Session], R], check: Callable[[], None]) -> R:
    """What ``write`` returns, in a transaction that is tried again until the database answers.

    It may be done twice, if the database goes away in the middle: the same is to come of that. ``check`` is called
    between two tries, and raises to end the waiting.
    """
    while True:
        try:
            with database.write() as session:
                return write(session)
        except DBAPIError as error:
            if not (is_away(error) or is_busy(error)):
                raise
            database.outage.begin(error)
        check()
        _pause.wait(_PAUSE_SECONDS)
