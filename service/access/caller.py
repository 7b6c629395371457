"""Who calls, as routes are told."""

from __future__ import annotations

from dataclasses import dataclass

from service.access.roles import Role


@dataclass(frozen=True)
class Caller:
    """The holder of a key, or whoever is on this host and needs none."""

    name: str
    role: Role
    key_id: int | None
    """None without a key."""
    sign_in: str | None = None
    """What the sign-in of a browser is found by: it sends a cookie by itself, whoever has it ask."""

    @property
    def signed_in(self) -> bool:
        """Whether it is a browser that signed in with the key."""
        return self.sign_in is not None

    def may_change(self, posted_by: int | None) -> bool:
        """Whether a search that was posted with that key, or without one, is theirs to change."""
        own = self.key_id is not None and self.key_id == posted_by
        return self.role.includes(Role.ADMIN) or (own and self.role.includes(Role.SUBMIT))


THIS_HOST = Caller("this host", Role.ADMIN, None)
