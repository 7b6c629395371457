"""Pages of long lists: each says where the next one is, by the last thing it holds (keyset pagination)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request


def link_to(request: Request, **changes: object) -> str:
    """Path and query of a request with some parameters changed."""
    url = request.url.include_query_params(**changes)
    return f"{url.path}?{url.query}"
