"""Which database a server or a command has: the same for all who have the same one, however they name it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from searcher.database import Database

_OF_CLUSTER = "SELECT system_identifier::text FROM pg_control_system()"
_OF_DATABASE = "SELECT oid::text || datname FROM pg_database WHERE datname = current_database()"


def identity_of(database: Database) -> str:
    """What tells a database from all others that this host can reach; it says neither where nor whose it is.

    Copies of a database are others: of a file, its place on the disk counts, of PostgreSQL, the cluster.

    Raises:
        OSError, SQLAlchemyError: when there is none, or it cannot be reached.
    """
    if database.embedded:
        # Whoever serves a file keeps it open: until then no other has its number.
        found = Path(database.url.database or "").stat()
        told = f"file {found.st_dev} {found.st_ino}"
    else:
        told = f"{_first(database, _OF_DATABASE)} of {_cluster(database)}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _cluster(database: Database) -> str:
    try:
        return _first(database, _OF_CLUSTER)
    except DBAPIError:  # some who run PostgreSQL for others let nobody ask
        return "an unknown cluster"


def _first(database: Database, query: str) -> str:
    with database.engine.connect() as connection:
        return str(connection.execute(text(query)).scalar_one())
