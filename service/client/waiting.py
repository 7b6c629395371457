"""Waiting for a server that is away, for as long as it takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from service.client.errors import Refused, ServerError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 5.0
_LONGEST_ASKED_SECONDS = 60.0
_PASSING = (408, 429, 500)

_Result = TypeVar("_Result")


class Waiting:
    """Counts for how long a server has been away, and pauses between tries.

    ``while_away`` is told, before every further try, for how many seconds there was no answer, and why; it may raise.
    """

    def __init__(self, pause: Callable[[float], None], while_away: Callable[[float, str], None] | None) -> None:
        self._pause, self._while_away = pause, while_away
        self.answered()

    def answered(self) -> None:
        self._since, self._next_pause = time.monotonic(), _FIRST_PAUSE_SECONDS

    def sit_out(self, error: ServerError) -> None:
        """Pauses before another try; raises the error if none can help."""
        if not _passes(error):
            raise error
        if self._while_away is not None:
            self._while_away(time.monotonic() - self._since, str(error))
        asked = error.retry_after_seconds if isinstance(error, Refused) else None
        self._pause(max(self._next_pause, min(asked or 0.0, _LONGEST_ASKED_SECONDS)))
        self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE_SECONDS)

    def result_of(self, call: Callable[[], _Result]) -> _Result:
        """What a call returns once the server answers it."""
        while True:
            try:
                found = call()
            except ServerError as error:
                self.sit_out(error)
            else:
                self.answered()
                return found


def _passes(error: ServerError) -> bool:
    """Whether the same request may be answered otherwise later: the server is away, replaced, or has too much to do."""
    if isinstance(error, Refused):
        return error.status in _PASSING or error.status > 500
    return isinstance(error, Unreachable)
