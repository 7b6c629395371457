"""Log lines: text for people at a terminal, JSON for what collects them (one object a line)."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from searcher.log_context import log_context

if TYPE_CHECKING:
    from collections.abc import Mapping

LogFormat = Literal["json", "text"]

_FIELDS = "fields"


def start_logging(process: str, wanted: LogFormat | None = None) -> None:
    """Has this process log to its standard error: text on a terminal, JSON elsewhere, or as is wanted."""
    form = wanted or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler()
    handler.setFormatter(_Text(process) if form == "text" else _Json(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("alembic", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def told(**fields: Any) -> dict[str, Any]:
    """``extra`` of a log call: fields beside the message, which JSON shows and text leaves out."""
    return {_FIELDS: fields}


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
            **log_context(),
            **_fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        first, newline, rest = super().format(record).partition("\n")
        request_id = log_context().get("request_id")
        return f"{first}{f' ({request_id})' if request_id else ''}{newline}{rest}"


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return found
