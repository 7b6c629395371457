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


def answer(request: Request, content: str, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
    """The content with its strong ETag, or 304 without any where the client has it."""
    body = content.encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    sent = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Authorization, Cookie",
        **(headers or {}),
    }
    if _holds(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=sent)
    return Response(body, headers=sent, media_type=media_type)


def _holds(if_none_match: str, etag: str) -> bool:
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return etag in known or known == ["*"]
