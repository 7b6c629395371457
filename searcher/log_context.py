"""What a log line is about, beside what it says: ids that a thread or a task works on, for whoever formats lines."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default={})  # noqa: B039  never changed


def log_context() -> Mapping[str, Any]:
    """What is being worked on: ``request_id``, ``evaluation``, and the ``searches`` that want it."""
    return _context.get()


def is_for(**ids: Any) -> None:
    """Has the lines say these ids too, until the ``working_on`` around it ends."""
    _context.set({**_context.get(), **ids})


@contextmanager
def working_on(**ids: Any) -> Iterator[None]:
    """Has every line that is logged inside the block, by this thread or task, say these ids too."""
    token = _context.set({**_context.get(), **ids})
    try:
        yield
    finally:
        _context.reset(token)
