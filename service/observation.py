"""What operators see of what goes on: every request has an id, a log line and a place in the metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

from searcher.log_context import working_on
from service.logs import told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.metrics import Metrics

log = logging.getLogger("service.requests")

HEADER = "X-Request-ID"

_USABLE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_QUIET = ("/healthz", "/readyz", "/metrics", "/static/")
"""Asked so often that their lines would hide the others, unless they fail."""
_IDS = {"search_id": "search", "evaluation_id": "evaluation"}


class Observation:
    """ASGI middleware around everything that answers.

    A request keeps the id that its client or a proxy gave it (X-Request-ID), or gets one; the answer says it, and so
    does every line that is logged on the way.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex
        started, status, answered_after = time.perf_counter(), 500, None

        async def send_with_id(message: Message) -> None:
            nonlocal status, answered_after
            if message["type"] == "http.response.start":
                status, answered_after = message["status"], time.perf_counter() - started
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with working_on(request_id=request_id), self._metrics.in_progress():
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                # A stream counts until it begins: how long somebody watches is no latency.
                seconds = time.perf_counter() - started if answered_after is None else answered_after
                self._metrics.note_request(scope["method"], route_of(scope), status, seconds)
                _log_request(scope, status, time.perf_counter() - started)


def route_of(scope: Scope) -> str:
    """The path of the route that answered, with names in place of ids: there are only so many."""
    path = str(scope["path"])
    if path.startswith("/static/"):
        return "/static"
    found: Any = scope.get("route")
    return str(getattr(found, "path", None) or "none")


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    path = str(scope["path"])
    if status < 500 and path.startswith(_QUIET):
        return
    ids = {_IDS[name]: int(value) for name, value in _ids_in(scope) if str(value).isdigit()}
    caller = getattr(scope.get("state", {}), "get", lambda _: None)("caller")
    fields = {
        "method": scope["method"],
        "path": path,
        "route": route_of(scope),
        "status": status,
        "ms": round(1000 * seconds, 1),
        "caller": getattr(caller, "name", None),
        **ids,
    }
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(level, "%s %s %d %.0f ms", scope["method"], _one_line(path), status, 1000 * seconds, extra=told(**fields))


def _ids_in(scope: Scope) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in scope.get("path_params", {}).items() if name in _IDS]


def _one_line(path: str) -> str:
    """A path as it can stand in a line of text: whoever asked chose it."""
    return path if path.isprintable() else repr(path)
