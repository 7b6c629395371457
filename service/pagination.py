"""Pages of long lists: each says where the next one is, by the last thing it holds (keyset pagination)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request


def link_to(request: Request, **changes: object) -> str:
    """Path and query of a request with some parameters changed; those that are None are left out."""
    url = request.url.remove_query_params([name for name, value in changes.items() if value is None])
    url = url.include_query_params(**{name: value for name, value in changes.items() if value is not None})
    return f"{url.path}?{url.query}" if url.query else url.path
