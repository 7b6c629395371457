"""Requests to one server: errors as exceptions, and another try where that is safe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from qcore import InvalidInput
from service.client.errors import Unreachable, error_of, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_SECONDS = 40.0
"""Longer than a server lets a request wait for its turn."""
RETRY_PAUSES_SECONDS = (0.2, 1.0)
"""Before the second and the third try."""

_PASSING = (502, 503, 504)
"""Statuses of a server that is being replaced, or cannot reach what it needs."""
_LONGEST_WAIT_SECONDS = 10.0
"""Whoever is told to come back later than that is told so at once."""


class Transport:
    """Talks HTTP to one server."""

    def __init__(
        self,
        url: str,
        key: str | None,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput("url", url, "is not a server's URL", "use e.g. http://127.0.0.1:8000")
        self.url, self._pause = url.rstrip("/"), pause
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self.http = httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, headers=headers, transport=transport)
        except httpx.InvalidURL as error:
            raise InvalidInput("url", url, f"is not a URL ({error})", "use e.g. http://127.0.0.1:8000") from None

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        again: bool,
    ) -> httpx.Response:
        """Sends a request and returns the answer to it, which is no error.

        Args:
            again: whether to try again where the server did not answer, or asks for it: only of what changes nothing,
                or changes nothing more the second time.

        Raises:
            ServerError, InvalidRequest: as the server says, or because it does not.
        """
        for wait in (*RETRY_PAUSES_SECONDS, None) if again else (None,):
            try:
                response = self.http.request(method, path, params=params, json=json, headers=headers)
            except httpx.TransportError as error:
                if wait is None:
                    told = f"{self.url} does not answer ({error}); is `quantrank serve` running?"
                    raise Unreachable(told) from error
                self._pause(wait)
                continue
            if not response.is_error:
                return response
            asked = retry_after_seconds(response)
            if wait is None or not _is_passing(response.status_code, asked):
                raise error_of(response)
            self._pause(wait if asked is None else max(wait, asked))
        raise AssertionError("the last try returns or raises")


def _is_passing(status: int, retry_after_seconds: float | None) -> bool:
    """Whether the same request may be answered otherwise soon."""
    if retry_after_seconds is not None:
        return status in (429, *_PASSING) and retry_after_seconds <= _LONGEST_WAIT_SECONDS
    return status in _PASSING
