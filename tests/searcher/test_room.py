"""Evaluations go to workers that may take as much memory as they need, and searches say where none may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from building import nothing_to_claim, post, propose_candidates, rows
from sqlalchemy import update
from working import worker_settings

from qcore import Architecture, get_task
from qcore.training_memory import estimated_bytes
from searcher import leases, workers
from searcher.next_proposal import propose_next
from searcher.progress import progress
from searcher.tables import Evaluation, Proposal, Search, Worker

if TYPE_CHECKING:
    from searcher.database import Database

NEEDS = {"basic-L8-D3": 1_100_000_000, "basic-L8-D4": 3_000_000_000}


def register(database: Database, worker_id: str, room: int | None) -> None:
    with database.write() as session:
        workers.register(session, worker_id, replace(worker_settings(Path("unused")), room_bytes=room))


def claims(database: Database, worker_id: str) -> str | None:
    """The architecture that a worker takes."""
    with database.write() as session:
        lease = leases.claim(session, worker_id, 1000.0)
        return None if lease is None else session.get_one(Evaluation, lease.evaluation_id).architecture


def waits_for(database: Database, search_id: int) -> str | None:
    with database.read() as session:
        return progress(session, session.get_one(Search, search_id)).waits_for


def posted(database: Database) -> int:
    """A search of a small network and a large one, both queued."""
    search_id = post(database, proposed=True, widths=[3, 4])
    with database.write() as session:
        for name, needed in NEEDS.items():
            session.execute(update(Evaluation).where(Evaluation.architecture == name).values(memory_bytes=needed))
    return search_id


def test_a_queued_evaluation_says_what_memory_it_takes(database: Database) -> None:
    post(database, proposed=True, widths=[3])

    (evaluation,) = rows(database, Evaluation)

    task = get_task("digits")
    layers = Architecture.parse("basic-L8-D3").layers(task)
    assert evaluation.memory_bytes == estimated_bytes(layers, task, task.recipes[0])


def test_a_worker_leaves_what_it_has_no_room_for_to_others(database: Database) -> None:
    posted(database)
    register(database, "small", 2_000_000_000)
    register(database, "large", 3_000_000_000)

    assert claims(database, "small") == "basic-L8-D3"
    assert claims(database, "small") is None
    assert claims(database, "large") == "basic-L8-D4"


def test_neither_an_unlimited_worker_nor_an_evaluation_of_before_is_held_up(database: Database) -> None:
    posted(database)
    register(database, "free", None)
    register(database, "tiny", 1)
    with database.write() as session:
        session.execute(update(Evaluation).where(Evaluation.architecture == "basic-L8-D3").values(memory_bytes=None))

    assert claims(database, "tiny") == "basic-L8-D3"
    assert claims(database, "tiny") is None
    assert claims(database, "free") == "basic-L8-D4"


def test_this_evaluation_too_is_left_by_a_worker_without_room(database: Database) -> None:
    posted(database)
    register(database, "small", 2_000_000_000)
    (large,) = [each for each in rows(database, Evaluation) if each.architecture == "basic-L8-D4"]

    with database.write() as session:
        assert leases.claim_evaluation(session, large.id, "small", 1000.0) is None


def test_a_worker_without_room_for_what_is_queued_proposes_what_comes_next(database: Database) -> None:
    search_id = post(database, widths=[3, 4], sampler="grid")
    propose_candidates(database, search_id, most=1)
    with database.write() as session:
        session.execute(update(Evaluation).values(memory_bytes=NEEDS["basic-L8-D4"]))
    register(database, "small", 2_000_000_000)

    assert propose_next(database, worker_id="small", asked={})

    assert len(rows(database, Proposal)) == 2
    assert claims(database, "small") is not None


def test_a_search_says_that_no_worker_has_room(database: Database) -> None:
    search_id = posted(database)
    register(database, "small", 2_000_000_000)
    assert waits_for(database, search_id) is None
    with database.write() as session:
        session.execute(update(Evaluation).values(memory_bytes=NEEDS["basic-L8-D4"]))

    told = waits_for(database, search_id)

    assert told is not None
    assert "no worker has the memory: what is queued takes at least 3.00 GB" in told
    assert "may take is 2.00 GB" in told
    assert nothing_to_claim(database) is False  # a worker that said nothing of its room would take it
    register(database, "large", 3_000_000_000)
    assert waits_for(database, search_id) is None


def test_another_worker_tries_a_suspect_only_if_it_has_room(database: Database) -> None:
    posted(database)
    register(database, "large", 3_000_000_000)
    register(database, "small", 2_000_000_000)
    with database.write() as session:
        session.execute(update(Evaluation).values(suspected_by="large"))

    assert claims(database, "large") == "basic-L8-D4"  # the small one could not
    assert claims(database, "large") is None
    assert claims(database, "small") == "basic-L8-D3"
    with database.write() as session:
        session.execute(update(Worker).values(room_bytes=None))
    assert claims(database, "large") is None
