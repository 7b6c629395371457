"""Searches posted under a name of the client's choice, so that one that is posted again is the same search."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, select, update

from qcore.errors import InvalidInput
from searcher.database import database_now, insert_into
from searcher.tables import IdempotencyKey, Search

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from searcher.request import SearchRequest

KEPT_SECONDS = 24 * 3600.0

_NOBODY = 0


@dataclass(frozen=True)
class Name:
    """What a client calls a search; the names of different API keys have nothing to do with each other."""

    poster: int | None
    """The API key, if there is one."""
    key: str


class NameTaken(InvalidInput):
    """A search of that name was posted before, or at the same time."""


class OtherRequest(Exception):  # noqa: N818  a state of affairs, not a fault
    """The name stands for a search that was asked for otherwise."""

    def __init__(self, search_id: int) -> None:
        super().__init__(search_id)
        self.search_id = search_id


def posted_before(session: Session, name: Name, request: SearchRequest) -> Search | None:
    """The search that was posted under a name, if any was.

    Raises:
        OtherRequest: when it was another request.
    """
    query = (
        select(IdempotencyKey.request_digest, Search)
        .join(Search, Search.id == IdempotencyKey.search_id)
        .where(_is(name), IdempotencyKey.expires_at > database_now())
    )
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    digest, search = found
    if digest != _digest(request):
        raise OtherRequest(search.id)
    return search


def take_name(session: Session, name: Name, request: SearchRequest) -> None:
    """Takes a name for a search that is about to be created in this transaction.

    Whoever asks for the same at the same time waits until it has ended, and then is refused, or takes the name.

    Raises:
        NameTaken: when somebody has it.
    """
    expired = IdempotencyKey.expires_at <= database_now()
    session.execute(delete(IdempotencyKey).where(expired).execution_options(synchronize_session=False))
    taken = session.execute(
        insert_into(session, IdempotencyKey)
        .values(
            poster=name.poster or _NOBODY,
            key=name.key,
            request_digest=_digest(request),
            expires_at=database_now() + KEPT_SECONDS,
        )
        .on_conflict_do_nothing()
        .returning(IdempotencyKey.key)
    )
    if taken.first() is None:
        raise NameTaken("Idempotency-Key", name.key, "is taken", "post again")


def bind_name(session: Session, name: Name, search_id: int) -> None:
    """Says which search a taken name stands for."""
    session.execute(update(IdempotencyKey).where(_is(name)).values(search_id=search_id))


def _is(name: Name) -> ColumnElement[bool]:
    return and_(IdempotencyKey.poster == (name.poster or _NOBODY), IdempotencyKey.key == name.key)


def _digest(request: SearchRequest) -> str:
    """Of what is asked for, however it is written."""
    return hashlib.sha256(request.model_dump_json().encode()).hexdigest()
