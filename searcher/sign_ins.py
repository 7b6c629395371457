"""Sign-ins: browsers that were let in with an API key, each by a token of its own, kept by its digest.

Functions take a session and never commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from searcher.database import database_now
from searcher.tables import ApiKey, SignIn

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def add_sign_in(session: Session, key_id: int, digest: str, seconds: float) -> SignIn:
    """Stores one that lasts so long; forgets those whose time is over."""
    session.execute(delete(SignIn).where(SignIn.expires_at <= database_now()))
    sign_in = SignIn(key_id=key_id, digest=digest, expires_at=database_now() + seconds)
    session.add(sign_in)
    session.flush()
    return sign_in


def find_signed_in(session: Session, digest: str) -> ApiKey | None:
    """The key of a sign-in that still counts: its time is not over, nobody signed out, the key was not revoked."""
    return session.scalars(
        select(ApiKey)
        .join(SignIn, SignIn.key_id == ApiKey.id)
        .where(SignIn.digest == digest, SignIn.expires_at > database_now(), ApiKey.revoked_at.is_(None))
    ).one_or_none()


def end_sign_in(session: Session, digest: str) -> None:
    """Lets a browser in no more, if it was."""
    session.execute(delete(SignIn).where(SignIn.digest == digest))
