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
from sqlalchemy import inspect
from sqlalchemy.exc import DatabaseError

from qcore.errors import InvalidInput
from searcher.counting import catch_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from searcher.database import Database

_VERSION_TABLE, _OWN_TABLE = "alembic_version", "searches"
_SQLITE_REMEDIES = {
    "unable to open": "see that its folder is there and that this user may write in it, or name another database",
    "readonly": "make the file and its folder writable for this user, or name another database",
    "not a database": "name another database",
    "malformed": "restore a backup of it, or name another database",
    "disk is full": "make room on its disk",
    "locked": "wait until whoever writes to it has finished, and try again",
}
"""By words of what SQLite says."""


def upgrade(database: Database) -> str:
    """Migrates to the newest revision, in one transaction, and returns it; a no-op where nothing is to do.

    Results that a release without standings left are then counted, a batch at a time.

    Raises:
        InvalidInput: when the database cannot be reached or written, is none, another program's, or a newer release's.
    """
    with _reachable(database):
        require_known(database)
        config = _config()
        with database.migrate() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    catch_up(database)
    return _head()


def require_current(database: Database) -> None:
    """Checks that a database has this release's tables.

    Raises:
        InvalidInput: when it has others, or cannot be reached or is none.
    """
    revision = require_known(database)
    if revision != _head():
        has = "has no tables yet" if revision is None else f"has the tables of an older release, revision {revision}"
        raise InvalidInput(database.setting, database.shown, has, "run `quantrank db upgrade`")


def require_known(database: Database) -> str | None:
    """The revision of a database's tables, which this release can bring to its own; None where it has none yet.

    Raises:
        InvalidInput: when they are a newer release's or another program's, or the database cannot be reached.
    """
    with _reachable(database), database.engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        revisions = MigrationContext.configure(connection).get_current_heads()
    known = {each.revision for each in _scripts().walk_revisions()}
    if set(revisions) <= known and (revisions or not tables - {_VERSION_TABLE}):
        return revisions[0] if revisions else None
    if _OWN_TABLE not in tables:
        problem, remedy = "is another program's database", "name an empty one, or one of quantrank"
    else:
        newer = ", ".join(revisions) or "unknown"
        problem = f"has the tables of a newer release of quantrank (revision {newer}; this one knows up to {_head()})"
        remedy = "install that release, or name another database"
    raise InvalidInput(database.setting, database.shown, problem, remedy)


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
        raise unusable(database.setting, database.shown, error) from error


def unusable(setting: str, shown: str, error: BaseException) -> InvalidInput:
    """What to tell of a database that failed: the reason, and the remedy for it."""
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    remedy = "start the database or correct the URL"
    if isinstance(getattr(error, "orig", error), sqlite3.Error):
        remedy = next((each for words, each in _SQLITE_REMEDIES.items() if words in reason), "name another database")
    return InvalidInput(setting, shown, f"cannot be used ({reason})", remedy)


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
