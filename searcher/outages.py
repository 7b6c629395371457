"""What an error of a database means: that others are at work in it, that its disk is full, or that it is away."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

_LOCKED = frozenset({"55P03", "57014", "40001", "40P01"})
"""Of PostgreSQL: a lock that did not come, a statement that took too long, transactions in each other's way."""
_FULL = frozenset({"53100", "53000"})
_AWAY = ("08", "53", "57P", "58", "25006", "XX")
"""Beginnings: connections, resources, shutdowns, its surroundings, a replica that takes no writes, its own faults."""


def is_busy(error: DBAPIError) -> bool:
    """Whether others hold what a transaction needs: the same is worth another try."""
    found = error.orig
    if isinstance(found, sqlite3.Error):
        return _primary(found) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
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
