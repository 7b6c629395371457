"""How often something may happen for each of many: requests of a key, refused keys from an address."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_MINUTE = 60.0
_MOST_REMEMBERED = 10_000
_PREFIX_BITS = 64
"""What one holder of IPv6 addresses has at least."""


class Rate:
    """At most so many a minute for each, all at once or spread out (the generic cell rate algorithm). Thread-safe.

    It is kept in this process: several of them count for themselves. One number for each is all that it takes, and no
    thread that cleans up, as the library ``limits`` starts for its memory.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval, self._clock = _MINUTE / per_minute, clock
        self._lock = threading.Lock()
        self._full_until: dict[Hashable, float] = {}
        """When everything that was counted for each will be forgotten; a minute from now, there is no room."""

    def take(self, who: Hashable) -> float:
        """Counts one more and gives 0; or, where there is no room, counts none and gives the seconds until there is."""
        with self._lock:
            wait, full_until = self._look(who)
            if wait == 0:
                self._full_until[who] = full_until
                if len(self._full_until) > _MOST_REMEMBERED:
                    now = self._clock()
                    self._full_until = {each: until for each, until in self._full_until.items() if until > now}
            return wait

    def wait(self, who: Hashable) -> float:
        """Seconds until there is room for one more; 0 where there is. Counts none."""
        with self._lock:
            return self._look(who)[0]

    def _look(self, who: Hashable) -> tuple[float, float]:
        now = self._clock()
        full_until = max(self._full_until.get(who, now), now) + self._interval
        beyond = full_until - now - _MINUTE
        return (beyond if beyond > self._interval * 1e-6 else 0.0), full_until  # sums differ by their last bits


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to come again."""
    return {"Retry-After": str(math.ceil(seconds))}


def network_of(address: str) -> str:
    """Whom an address is counted for: itself, or the network that one holder of IPv6 addresses has at least.

    >>> network_of("198.51.100.7"), network_of("2001:db8::1"), network_of("2001:db8::ffff:2")
    ('198.51.100.7', '2001:db8::/64', '2001:db8::/64')
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _PREFIX_BITS), strict=False))
