"""The cookie of a browser that signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.access.secrets import digest_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SIGN_IN_SECONDS = 7 * 24 * 3600
"""How long a sign-in lasts."""

_NAME = "quantrank_sign_in"
_SECURE_NAME = f"__Host-{_NAME}"
"""Browsers take a cookie of such a name only from this very host, over https: no neighbour can slip them its own."""


def digest_in_cookie(request: Request) -> str | None:
    """What a browser's sign-in is found by; None where it sent no cookie."""
    secure = request.cookies.get(_SECURE_NAME)
    token = secure if secure is not None or request.url.scheme == "https" else request.cookies.get(_NAME)
    return None if token is None else digest_of(token)


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Out of reach of scripts, and sent along only from this server's pages and by links that lead to one."""
    secure = _is_over_https(request)
    response.set_cookie(
        _SECURE_NAME if secure else _NAME,
        token,
        max_age=SIGN_IN_SECONDS,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def remove_cookies(response: Response) -> None:
    response.delete_cookie(_NAME, path="/", httponly=True, samesite="lax")
    response.delete_cookie(_SECURE_NAME, path="/", secure=True, httponly=True, samesite="lax")


def _is_over_https(request: Request) -> bool:
    # The browser says so where a proxy that speaks TLS does not.
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
