"""What ends a command otherwise than by unusable input, in words, with its exit status."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from searcher.schema import unusable
from service.client import ServerError
from service.settings import load_settings, unusable_home


def in_words(error: Exception) -> tuple[int, str] | None:
    """The exit status and what to tell of a failure that is no fault of the program; None if it may be one."""
    if isinstance(error, ServerError):
        return error.exit_status, str(error)
    settings = load_settings()
    if isinstance(error, (DBAPIError, sqlite3.Error)):
        database = settings.named_database()
        return 2, str(unusable(database.setting, database.shown, error))
    if isinstance(error, OSError) and error.filename is not None:
        path = Path(os.fsdecode(error.filename)).absolute()
        if path.is_relative_to(settings.home):
            return 2, str(unusable_home(settings.home, f"{error.strerror}: {path}"))
    return None
