"""No request may send more than a server can be asked to hold: neither at once, nor piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.problems import TooLarge, respond

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 256 * 1024
"""A search that names 1,000 architectures takes about 30 KB."""


class BodyLimit:
    """ASGI middleware that answers 413 in place of a route whose request is too large."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"")
        if told.isdigit() and (length := int(told[:18])) > self._most_bytes:
            await respond(TooLarge(length, self._most_bytes).problem)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:  # it came in chunks
                raise TooLarge(None, self._most_bytes)
            return message

        await self._app(scope, counted, send)
