"""What happened to a search, written in the transaction in which it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, insert, or_, select

from searcher.database import at_the_end, take_turns
from searcher.tables import Event, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session


_SEARCHES_AT_ONCE = 200
_LOCKED, _TOLD = "locked searches", "events"


def lock_searches(session: Session, search_ids: Sequence[int]) -> list[Search]:
    """Locks searches in the order of their ids, so that two transactions never wait for each other.

    Searches are locked before evaluations, always: who holds an evaluation must not wait for a search. To tell one
    something does not take this lock.
    """
    return _locked(session, select(Search).where(Search.id.in_(search_ids)))


def lock_searches_that_want(session: Session, evaluation_ids: Sequence[int]) -> list[Search]:
    """Locks the running searches that any of the evaluations was proposed for, in the order of their ids."""
    return _locked(session, _that_want(evaluation_ids))


def searches_that_want(session: Session, evaluation_ids: Sequence[int]) -> list[Search]:
    """The running searches that any of the evaluations was proposed for."""
    query = _that_want(evaluation_ids).order_by(Search.id)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _that_want(evaluation_ids: Sequence[int]) -> Select[Search]:
    linked = select(Proposal.search_id).where(Proposal.evaluation_id.in_(evaluation_ids))
    return select(Search).where(Search.id.in_(linked), Search.status == "running")


def _locked(session: Session, query: Select[Search]) -> list[Search]:
    # Not against those who only refer to a search: an event is told while another has the search locked.
    locking = query.order_by(Search.id).with_for_update(key_share=True)
    found = list(session.scalars(locking.execution_options(populate_existing=True)))
    session.info.setdefault(_LOCKED, set()).update(search.id for search in found)
    return found


def emit(session: Session, searches: Sequence[Search], kind: str, **data: Any) -> None:
    """Appends an event to each of the searches, at the end of the transaction.

    One that has ended meanwhile, and is not locked by this transaction, is told nothing any more.
    """
    if _TOLD not in session.info:
        session.info[_TOLD] = []
        at_the_end(session, _write_events)
    session.info[_TOLD] += [{"search_id": search.id, "kind": kind, "data": data} for search in searches]


def _write_events(session: Session) -> None:
    """Ids of one search's events rise in the order of commits: a reader who has seen one has missed none before it.

    To this end writers of one search's events take turns, from here to their commit.
    """
    session.flush()
    told = session.info.pop(_TOLD)
    ids = sorted({event["search_id"] for event in told})
    take_turns(session, ids)
    listens = (Search.status == "running") | Search.id.in_(session.info.get(_LOCKED, ()))
    query = select(Search.id).where(Search.id.in_(ids), listens).order_by(Search.id)
    listening = session.scalars(query.with_for_update(read=True, key_share=True)).all()
    if events := [event for event in told if event["search_id"] in listening]:
        session.execute(insert(Event), events)


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
