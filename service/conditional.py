"""Answers that a client which has them already is not sent again: ETag and If-None-Match (RFC 9110)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import Request

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not Modified: the ETag that was sent still holds"}
}
"""For a route's ``responses``."""


def etag_of(*parts: object) -> str:
    """A strong ETag of what decides an answer's every byte: its content, or what that is made of."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def not_modified(request: Request, etag: str) -> Response | None:
    """The answer to a client that says it has what the ETag stands for; None to others."""
    is_there = is_known(etag, request.headers.get("if-none-match"))
    return Response(status_code=304, headers=_headers(etag)) if is_there else None


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether a client says by that header that it has what the ETag stands for."""
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return etag in known or known == ["*"]


def answer(content: str, media_type: str, etag: str, headers: Mapping[str, str] | None = None) -> Response:
    """Content that its client may keep, and has to ask for again each time."""
    return Response(content, headers={**_headers(etag), **(headers or {})}, media_type=media_type)


def _headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "private, no-cache"}
