"""How long somebody waits for an answer: what works on it may ask, and gives up in time.

The database's connections ask while they wait (``searcher/database.py``); what computes for long calls ``check``.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class DeadlinePassed(Exception):  # noqa: N818  a state of affairs, not a fault
    """Nobody waits for the answer any more. Whatever was being written is rolled back."""


class Deadline:
    """A moment until which somebody waits, unless they leave before. Safe to share between threads."""

    def __init__(self, seconds: float) -> None:
        self._moment = time.monotonic() + seconds
        self._is_left = False

    @property
    def seconds(self) -> float:
        """Until the moment; 0 after it."""
        return 0.0 if self._is_left else max(0.0, self._moment - time.monotonic())

    def leave(self) -> None:
        """Says that nobody waits any more."""
        self._is_left = True


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def waited_for(deadline: Deadline) -> Iterator[None]:
    """Has what is done inside the block, by this thread or task, be waited for until then."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


def seconds_left() -> float | None:
    """Seconds that somebody still waits for what this thread or task does; None where nothing says so."""
    deadline = _current.get()
    return None if deadline is None else deadline.seconds


def check() -> None:
    """Ends a computation that nobody waits for any more; to be called in long loops.

    Raises:
        DeadlinePassed: when the time is over, or whoever asked has left.
    """
    if seconds_left() == 0.0:
        raise DeadlinePassed
