"""What every answer tells browsers: to run, load and show nothing that is not this server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",  # from files: nothing that stands in a page, whoever wrote it there, is run
        "style-src 'self' 'unsafe-inline'",  # Plotly and Swagger UI write styles; what styles could load is listed here
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with less, browsers do not say either which site posts a form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

_CACHING = {"Cache-Control": "private, no-cache"}
"""What depends on who asks: in no cache that others share, and nowhere without asking whether it still holds."""


class SecurityHeaders:
    """ASGI middleware around everything that answers, refusals too. A header that an answer has already stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_for_all = scope["path"].startswith("/static/")
        added = HEADERS if is_for_all else HEADERS | _CACHING

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    headers.setdefault(name, value)
                if not is_for_all:
                    headers.add_vary_header("Accept, Authorization, Cookie")
            await send(message)

        await self._app(scope, receive, send_with_headers)
