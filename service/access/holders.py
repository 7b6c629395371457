"""Whose key it is that somebody gives, and whether they have given wrong ones, or asked, too often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searcher.api_keys import find_key, get_key
from searcher.sign_ins import find_signed_in
from service.access.caller import Caller
from service.access.rates import Rate, network_of, retry_after
from service.access.refusal import CHALLENGE, KEY_REMEDY, Refusal
from service.access.roles import Role
from service.access.secrets import digest_of

if TYPE_CHECKING:
    from searcher.database import Database

_MOST_REMEMBERED = 10_000


class Holders:
    """Looks keys up, for requests that send one and for signing in. Thread-safe."""

    def __init__(self, database: Database, requests_per_minute: int, refused_keys_per_minute: int) -> None:
        self._database = database
        self._requests, self._refused = Rate(requests_per_minute), Rate(refused_keys_per_minute)
        self._let_in: set[tuple[str, int]] = set()
        """From where which key came. What goes wrong beside them, behind one address, does not shut them out."""

    def holder(self, key: str, address: str) -> Caller:
        """Whom a key lets in.

        Raises:
            Refusal: when it does not, or when too many from that address did not.
        """
        network = network_of(address)
        with self._database.read() as session:
            found = find_key(session, digest_of(key))
        accepted = found if found is not None and found.revoked_at is None else None
        wait = self._refused.wait(network)
        if wait and (accepted is None or (network, accepted.id) not in self._let_in):
            detail = f"From {network} came too many keys that are not accepted; wait, or use the right one"
            raise Refusal(429, "Too many keys were not accepted", detail, retry_after(wait))
        if accepted is None:
            self._refused.take(network)
            state = "was revoked" if found is not None else "is not known here"
            detail = f"The key {state}; {KEY_REMEDY}"
            raise Refusal(401, "The key is not accepted", detail, CHALLENGE)
        if len(self._let_in) >= _MOST_REMEMBERED:
            self._let_in.clear()
        self._let_in.add((network, accepted.id))
        return Caller(accepted.name, Role(accepted.role), accepted.id)

    def signed_in(self, digest: str) -> Caller | None:
        """Whom a browser's sign-in lets in, if it still does."""
        with self._database.read() as session:
            key = find_signed_in(session, digest)
        return None if key is None else Caller(key.name, Role(key.role), key.id, digest)

    def are_let_in(self, caller: Caller) -> bool:
        """Whether somebody who was let in would be now: their key may have been revoked, or they signed out."""
        if caller.sign_in is not None:
            return self.signed_in(caller.sign_in) is not None
        if caller.key_id is None:
            return True
        with self._database.read() as session:
            key = get_key(session, caller.key_id)
        return key is not None and key.revoked_at is None

    def count_request(self, caller: Caller) -> None:
        """Counts a request of a key.

        Raises:
            Refusal: when it has asked as often as it may.
        """
        wait = 0.0 if caller.key_id is None else self._requests.take(caller.key_id)
        if wait:
            detail = f"The key {caller.name!r} has asked as often as a key may; ask again in a moment, and less often"
            raise Refusal(429, "Too many requests", detail, retry_after(wait))
