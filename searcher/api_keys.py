"""API keys: who may call the REST API. Kept by their digest, so that nobody can read a key out of the database.

Functions take a session and never commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from searcher.database import database_now, read_clock
from searcher.tables import ApiKey

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def add_key(session: Session, name: str, role: str, digest: str, hint: str, **allowances: int | None) -> ApiKey:
    """Stores a key. The digest says which it is, and the hint lets people tell it from others.

    ``allowances`` are those of ``searcher.allowances.ALLOWANCES`` that it is not to exceed.
    """
    key = ApiKey(name=name, role=role, digest=digest, hint=hint, **allowances)
    session.add(key)
    session.flush()
    return key


def find_key(session: Session, digest: str) -> ApiKey | None:
    """The key of a digest, revoked or not."""
    return session.scalars(select(ApiKey).where(ApiKey.digest == digest)).one_or_none()


def get_key(session: Session, key_id: int) -> ApiKey | None:
    """The key of an id, revoked or not."""
    return session.get(ApiKey, key_id)


def list_keys(session: Session) -> list[ApiKey]:
    """All keys, revoked ones too, in the order they were made."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.id)))


def has_usable_key(session: Session) -> bool:
    return session.scalars(select(ApiKey.id).where(ApiKey.revoked_at.is_(None)).limit(1)).first() is not None


def revoke_key(session: Session, key_id: int) -> ApiKey | None:
    """Lets a key in no more. None if there is none; one that was revoked before keeps its time."""
    key = session.get(ApiKey, key_id)
    if key is not None and key.revoked_at is None:
        key.revoked_at = read_clock(session)
    return key


def note_use(session: Session, key_id: int) -> None:
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=database_now()))
