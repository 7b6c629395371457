"""Where a browser goes after signing in: back to the page it had asked for, and to no other site."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from starlette.datastructures import URL

SIGN_IN_PATH, SIGN_OUT_PATH = "/sign-in", "/sign-out"
_FIRST_PAGE = "/"
_MOST_CHARACTERS = 2000


def sign_in_path(asked_for: URL) -> str:
    """The page to sign in on, which leads back."""
    path = asked_for.path + (f"?{asked_for.query}" if asked_for.query else "")
    return SIGN_IN_PATH if path == _FIRST_PAGE else f"{SIGN_IN_PATH}?{urlencode({'next': path})}"


def checked_return_path(path: str) -> str:
    """The path, if it is one of this server's pages; the first page otherwise.

    >>> checked_return_path("/?search=3"), checked_return_path("https://example.org/"), checked_return_path("//x.org")
    ('/?search=3', '/', '/')
    """
    # What browsers make of backslashes, tabs and line ends is another host, sometimes.
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path
    if not is_own or len(path) > _MOST_CHARACTERS or any(ord(each) <= 0x20 or ord(each) == 0x7F for each in path):
        return _FIRST_PAGE
    return quote(path, safe="/?&=%#:@!$'()*+,;~-._[]")
