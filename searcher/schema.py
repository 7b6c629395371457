"""Bringing a database's tables to this release's, by the project's Alembic migrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from qcore.errors import InvalidInput

if TYPE_CHECKING:
    from searcher.database import Database


def upgrade(database: Database) -> str:
    """Migrates to the newest revision, in one transaction, and returns it; a no-op where nothing is to do."""
    config = _config()
    with database.engine.begin() as connection:
        if not database.embedded:
            # Two processes that start at once take turns; the lock ends with the transaction.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7237410)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return _head()


def require_current(database: Database) -> None:
    """Checks that a database has this release's tables.

    Raises:
        InvalidInput: when it has others, or cannot be reached.
    """
    try:
        with database.engine.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise InvalidInput(
            "QUANTRANK_DATABASE_URL",
            database.url.render_as_string(),
            f"cannot be reached ({reason})",
            "start the database or correct the URL",
        ) from error
    if revision != _head():
        raise InvalidInput(
            "QUANTRANK_DATABASE_URL",
            database.url.render_as_string(),
            f"has tables of revision {revision or 'none'}, this release needs {_head()}",
            "run `quantrank db upgrade` (or, if the tables are newer, a newer release)",
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _migrations() -> Path:
    """Inside this package where quantrank is installed, beside it in a checkout."""
    here = Path(__file__).parent
    installed = here / "migrations"
    return installed if installed.is_dir() else here.parent / "migrations"
