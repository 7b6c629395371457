"""What the holder of a key may do."""

from __future__ import annotations

from enum import StrEnum

from service.access.return_paths import SIGN_OUT_PATH

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(StrEnum):
    """Each may do what the one before it may."""

    READ = "read"
    """See everything."""
    SUBMIT = "submit"
    """Post searches; cancel, extend and change one's own."""
    ADMIN = "admin"
    """Change everybody's searches."""

    def includes(self, other: Role) -> bool:
        """Whether this role may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


def changes_something(method: str) -> bool:
    return method not in _SAFE_METHODS


def needed_role(method: str, path: str) -> Role:
    """The least role that a request needs. Routes may ask for more."""
    return Role.SUBMIT if changes_something(method) and path != SIGN_OUT_PATH else Role.READ
