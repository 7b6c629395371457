"""What happened to a search, written in the transaction in which it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, insert, or_, select

from searcher.tables import Event, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session


_SEARCHES_AT_ONCE = 200


def lock_searches(session: Session, search_ids: Sequence[int]) -> list[Search]:
    """Locks searches in the order of their ids, so that two transactions never wait for each other.

    Whoever writes an event holds its search's lock: ids of one search's events then rise in the order of commits,
    and a reader who has seen one has missed none before it. Searches are locked before evaluations, always.
    """
    query = select(Search).where(Search.id.in_(search_ids)).order_by(Search.id).with_for_update()
    return list(session.scalars(query.execution_options(populate_existing=True)))


def lock_searches_that_want(session: Session, evaluation_ids: Sequence[int]) -> list[Search]:
    """Locks the running searches that any of the evaluations was proposed for, in the order of their ids."""
    query = select(Search).where(Search.id.in_(_linked(evaluation_ids)), Search.status == "running")
    ordered = query.order_by(Search.id).with_for_update()
    return list(session.scalars(ordered.execution_options(populate_existing=True)))


def searches_that_want(session: Session, evaluation_ids: Sequence[int]) -> list[int]:
    """Ids of the running searches that any of the evaluations was proposed for."""
    query = select(Search.id).where(Search.id.in_(_linked(evaluation_ids)), Search.status == "running")
    return list(session.scalars(query))


def _linked(evaluation_ids: Sequence[int]) -> Select[int]:
    return select(Proposal.search_id).where(Proposal.evaluation_id.in_(evaluation_ids))


def emit(session: Session, searches: Sequence[Search], kind: str, **data: Any) -> None:
    """Appends an event to each of the (locked) searches."""
    if searches:
        session.execute(insert(Event), [{"search_id": search.id, "kind": kind, "data": data} for search in searches])


def events_after(session: Session, search_id: int, event_id: int, limit: int = 500) -> list[Event]:
    """A search's events after one of them, oldest first."""
    query = select(Event).where(Event.search_id == search_id, Event.id > event_id).order_by(Event.id).limit(limit)
    return list(session.scalars(query))


def latest_event(session: Session, search_id: int) -> int:
    """Id of a search's newest event; 0 if it has none."""
    query = select(Event.id).where(Event.search_id == search_id).order_by(Event.id.desc()).limit(1)
    return session.scalars(query).first() or 0


def events_after_each(session: Session, after: Mapping[int, int], limit: int) -> list[Event]:
    """Events of several searches, each after one of its own, oldest first: none is left out between two of a search.

    Asked search by search, because ids of different searches do not rise in the order of commits.
    """
    found: list[Event] = []
    searches = list(after.items())
    for start in range(0, len(searches), _SEARCHES_AT_ONCE):
        each_after = [
            and_(Event.search_id == search_id, Event.id > event_id)
            for search_id, event_id in searches[start : start + _SEARCHES_AT_ONCE]
        ]
        query = select(Event).where(or_(*each_after)).order_by(Event.id).limit(limit - len(found))
        found += session.scalars(query)
        if len(found) == limit:
            break
    return found
