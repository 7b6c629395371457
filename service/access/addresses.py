"""Where a request was sent to, and from which site."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this host's to itself, and cannot be another's."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def host_of(header: str) -> str:
    """The name in a Host header, without port and brackets; empty where there is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_of_another_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends this for a page that is not this server's. Other programs do not say where they are."""
    return _is_said_to_be_of_this_site(headers) is False


def is_of_this_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that one of this server's pages asks. Every browser says so of what is posted."""
    return _is_said_to_be_of_this_site(headers) is True


def leads_a_browser_here(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that somebody goes to this address, as by a link; and not that a page loads it."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _is_said_to_be_of_this_site(headers: Mapping[str, str]) -> bool | None:
    """None where nothing is said."""
    fetch_site = headers.get("sec-fetch-site")  # a page cannot set it; browsers leave it out over http to other hosts
    if fetch_site == "none":  # typed in, or a bookmark: no page asks
        return None
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return None
    site = origin.partition("://")[2]  # nothing of "null", which stands for a page that is of no site
    return site != "" and site == headers.get("host")
