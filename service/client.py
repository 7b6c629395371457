"""A client of the REST API, which the command line uses too."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx

from qcore import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

ENDING_EVENTS = ("search_finished", "search_cancelled")

_TIMEOUT_SECONDS = 30.0
_MOST_RECONNECTIONS = 10
_RECONNECTION_PAUSE_SECONDS = 1.0


class ServerError(Exception):
    """The server could not be reached, or answered with an error that is no fault of the request."""


class Client:
    """Talks to one server; a context manager."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """``key`` is for a server that asks for one."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInput("url", url, "is not a server's URL", "use e.g. http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        try:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT_SECONDS, headers=headers)
        except httpx.InvalidURL as error:
            raise InvalidInput("url", url, f"is not a URL ({error})", "use e.g. http://127.0.0.1:8000") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def is_up(self) -> bool:
        """Whether a quantrank server answers there."""
        try:
            response = self._http.get("/healthz", timeout=2.0)
            return response.status_code == httpx.codes.OK and response.json().get("service") == "quantrank"
        except (httpx.HTTPError, ValueError, AttributeError):
            return False

    def post_search(self, request: dict[str, Any]) -> Any:
        """Posts a search request and returns the search.

        Raises:
            InvalidInput: when the server refuses the request.
        """
        return self._json("POST", "/search", json=request)

    def estimate(self, request: dict[str, Any], workers: int | None = None) -> Any:
        """What a search would cost; nothing is stored.

        Raises:
            InvalidInput: when the server refuses the request.
        """
        return self._json("POST", "/search/estimate", json=request, params={"workers": workers} if workers else None)

    def search(self, search_id: int) -> Any:
        return self._json("GET", f"/searches/{search_id}")

    def extend(self, search_id: int, limits: dict[str, Any]) -> Any:
        """Gives a search the limits that are named, and returns it.

        Raises:
            InvalidInput: when the server refuses them.
        """
        return self._json("POST", f"/searches/{search_id}/extend", json=limits)

    def cancel(self, search_id: int) -> Any:
        return self._json("POST", f"/searches/{search_id}/cancel")

    def search_leaderboard(self, search_id: int) -> Any:
        return self._json("GET", f"/searches/{search_id}/leaderboard")

    def leaderboard(self, task: str, **filters: Any) -> Any:
        """The leaderboard of a task over all searches; filters are the route's query parameters."""
        given = {name: value for name, value in filters.items() if value is not None}
        return self._json("GET", "/leaderboard", params={"task": task, **given})

    def workers(self) -> Any:
        return self._json("GET", "/workers")

    def events(self, search_id: int) -> Iterator[tuple[str, Any]]:
        """(kind, data) of a search's events, from its beginning to its end; goes on where a connection breaks.

        Raises:
            ServerError: when the server stays away.
        """
        seen, broken = "0", 0
        while True:
            reason = "the stream ended before the search"
            try:
                for event_id, kind, data in self._stream(search_id, seen):
                    seen, broken = event_id or seen, 0
                    yield kind, data
                    if kind in ENDING_EVENTS and self.search(search_id)["status"] != "running":  # not extended since
                        return
            except httpx.TransportError as error:
                reason = str(error)
            broken += 1
            if broken > _MOST_RECONNECTIONS:
                raise ServerError(f"{self.url} does not answer any more ({reason})")
            time.sleep(_RECONNECTION_PAUSE_SECONDS)

    def _stream(self, search_id: int, seen: str) -> Iterator[tuple[str | None, str, Any]]:
        headers = {"Last-Event-ID": seen}
        timeout = httpx.Timeout(_TIMEOUT_SECONDS, read=60.0)
        with self._http.stream("GET", f"/searches/{search_id}/events", headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
                _raise(response)
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    yield fields.get("id"), fields["event"], json.loads(fields["data"])
                    fields = {}

    def _json(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise ServerError(f"{self.url} does not answer ({error}); is `quantrank serve` running?") from error
        if response.is_error:
            _raise(response)
        try:
            return response.json()
        except ValueError:
            raise ServerError(f"{self.url} is no quantrank server: its answer is not JSON") from None


def _raise(response: httpx.Response) -> None:
    try:
        problem = response.json()
        first = problem["errors"][0] if problem["errors"] else None
        detail = problem["detail"]
    except (ValueError, KeyError, TypeError):
        raise ServerError(f"{response.url} answered {response.status_code}") from None
    if first is not None:
        raise InvalidInput(first["field"], first["value"], first["problem"], first["remedy"])
    raise ServerError(f"{response.url}: {detail}")
