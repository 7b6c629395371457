"""The first key of a server that starts where nobody types commands: from a file, such as a container's secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore import InvalidInput
from searcher.api_keys import add_key, find_key, list_keys, revoke_key
from service.access.roles import Role
from service.access.secrets import digest_of, hint_of, read_key_file

if TYPE_CHECKING:
    from pathlib import Path

    from searcher.database import Database

BOOTSTRAP_NAME = "bootstrap"
"""Of keys that came from the file; `quantrank keys create` gives it to no other."""

_FIELD = "QUANTRANK_BOOTSTRAP_KEY_FILE"
_LEAST_CHARACTERS = 32


def admit_bootstrap_key(database: Database, path: Path) -> None:
    """Makes the file's key one of role admin; the one that was there before it is revoked.

    Raises:
        InvalidInput: when the file holds none that can be used.
    """
    key = read_key_file(_FIELD, path)
    if len(key) < _LEAST_CHARACTERS:
        problem = f"holds a key of {len(key)} characters, which could be guessed"
        raise InvalidInput(_FIELD, str(path), problem, "write a random one there, e.g. from `openssl rand -hex 32`")
    digest = digest_of(key)
    with database.write() as session:
        found = find_key(session, digest)
        if found is not None and (found.revoked_at is not None or found.role != Role.ADMIN):
            state = "was revoked" if found.revoked_at is not None else f"has role {found.role}"
            raise InvalidInput(_FIELD, str(path), f"holds a key that {state}", "write another random one there")
        for each in list_keys(session):
            if each.name == BOOTSTRAP_NAME and each.digest != digest:
                revoke_key(session, each.id)
        if found is None:
            add_key(session, BOOTSTRAP_NAME, Role.ADMIN, digest, hint_of(key))
