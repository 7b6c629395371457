"""Bringing a database's tables to this release's, by the project's Alembic migrations."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError

from qcore.errors import InvalidInput
from searcher.counting import catch_up
from searcher.database import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from searcher.database import Database


def upgrade(database: Database) -> str:
    """Migrates to the newest revision, in one transaction, and returns it; a no-op where nothing is to do.

    Results that a release without standings left are then counted, a batch at a time.

    Raises:
        InvalidInput: when the database cannot be reached or is none.
    """
    config = _config()
    with _reachable(database), database.migrate() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    catch_up(database)
    return _head()


def require_current(database: Database) -> None:
    """Checks that a database has this release's tables.

    Raises:
        InvalidInput: when it has others, or cannot be reached or is none.
    """
    with _reachable(database), database.engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    if revision != _head():
        raise InvalidInput(
            "QUANTRANK_DATABASE_URL",
            described(database.url),
            f"has tables of revision {revision or 'none'}, this release needs {_head()}",
            "run `quantrank db upgrade` (or, if the tables are newer, a newer release)",
        )


def has_needed_tables(database: Database) -> tuple[bool, str | None, str]:
    """Whether this release can work on a database now, the revision of its tables, and the one that is needed.

    Tables of a revision that this release does not know are newer: migrations leave it working until it is replaced.

    Raises:
        InvalidInput: when the database cannot be reached or is none.
    """
    with _reachable(database), database.engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    older = {each.revision for each in _scripts().walk_revisions()} - {_head()}
    return revision is not None and revision not in older, revision, _head()


@contextmanager
def _reachable(database: Database) -> Iterator[None]:
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise InvalidInput(
            "QUANTRANK_DATABASE_URL",
            described(database.url),
            f"cannot be used ({reason})",
            "start the database or correct the URL",
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _head() -> str:
    head = _scripts().get_current_head()
    assert head is not None
    return head


def _migrations() -> Path:
    """Inside this package where quantrank is installed, beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "migrations"
    return installed if installed.is_dir() else here.parent / "migrations"
