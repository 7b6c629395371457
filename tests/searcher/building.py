"""What the tests of this folder share: small searches, and a worker played without torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.config import Config
from sqlalchemy import select, update

import searcher
from searcher import leases, results
from searcher.database import database_now
from searcher.next_proposal import propose_next
from searcher.plan import plan
from searcher.proposals import propose
from searcher.request import SearchRequest
from searcher.searches import create_search, get_search
from searcher.tables import Base, Candidate, Evaluation, Event, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from searcher.database import Database
    from searcher.leases import Lease
    from searcher.plan import SearchPlan

FLOAT_EPOCHS, RETRAINING_EPOCHS = 2, 1
WIDTHS = list(range(3, 8))


def recipe(float_epochs: int = FLOAT_EPOCHS, retraining_epochs: int = RETRAINING_EPOCHS) -> dict[str, Any]:
    """Overrides of a task's default recipe that make it short."""
    return {
        "float_part": {"schedule": {"epochs": float_epochs, "warmup_epochs": 0}},
        "retraining": {"schedule": {"epochs": retraining_epochs, "warmup_epochs": 0}},
    }


def search_plan(**fields: Any) -> SearchPlan:
    """Five candidates, basic-L8-D3 to -D7, at W2A2, unless the fields say otherwise."""
    asked = {
        "task": "digits",
        "parameter_budget": 50_000,
        "blocks": ["basic"],
        "depths": [8],
        "widths": WIDTHS,
        "bit_widths": ["W2A2"],
        "recipe": recipe(),
    }
    return plan(SearchRequest(**(asked | fields)))


def post(database: Database, *, proposed: bool = False, **fields: Any) -> int:
    """Creates a search, with every candidate proposed if asked for; returns its id."""
    with database.write() as session:
        search_id = create_search(session, search_plan(**fields)).id
    if proposed:
        propose_candidates(database, search_id)
    return search_id


def unproposed_candidates(session: Session, search: Search) -> list[Candidate]:
    """Candidates that no evaluation was proposed for, in the order they were enumerated."""
    proposed = select(Proposal.candidate_id).where(Proposal.search_id == search.id)
    query = select(Candidate).where(Candidate.search_id == search.id, Candidate.id.not_in(proposed))
    return list(session.scalars(query.order_by(Candidate.id)))


def propose_candidates(database: Database, search_id: int, most: int | None = None) -> None:
    with database.write() as session:
        search = session.get_one(Search, search_id)
        for candidate in unproposed_candidates(session, search)[:most]:
            propose(session, search, candidate)


def claim(database: Database, seconds: float = 1000.0, worker_id: str = "worker") -> Lease:
    with database.write() as session:
        lease = leases.claim(session, worker_id, seconds)
    assert lease is not None
    return lease


def nothing_to_claim(database: Database) -> bool:
    with database.write() as session:
        lease = leases.claim(session, "idle", 1000.0)
        session.rollback()
    return lease is None


def end_lease(database: Database, lease: Lease) -> None:
    """Puts the lease's end into the past, as if its worker had died."""
    with database.write() as session:
        session.execute(
            update(Evaluation).where(Evaluation.id == lease.evaluation_id).values(lease_ends=database_now() - 1.0)
        )


def made_up_accuracy(evaluation: Evaluation, bit_widths: str) -> float:
    """Something that differs between architectures, seeds and bit widths."""
    lost = {"float": 0.0, "W2AF": 5.0, "WFA2": 7.0}.get(bit_widths, 10.0)
    return 50.0 + evaluation.width + evaluation.seed / 4 - lost


def train_next_stage(
    database: Database, lease: Lease, accuracy: Callable[[Evaluation, str], float] = made_up_accuracy
) -> str | None:
    """Plays a worker for one stage, each step in a transaction of its own; returns its bit widths."""
    with database.write() as session:
        stage = results.next_stage(session, lease)
    if stage is None:
        return None
    bit_widths = str(stage.plan.bit_widths)
    with database.read() as session:
        value = accuracy(session.get_one(Evaluation, lease.evaluation_id), bit_widths)
    for epoch in range(1, stage.plan.epochs + 1):
        with database.write() as session:
            record_epoch(session, lease, stage.stage_id, epoch=epoch)
    with database.write() as session:
        accept_stage(session, lease, stage.stage_id, validation_accuracy=value, test_accuracy=value - 1.0)
    return bit_widths


def work(
    database: Database, lease: Lease, accuracy: Callable[[Evaluation, str], float] = made_up_accuracy
) -> list[str]:
    """Plays a worker until the evaluation ends; returns the bit widths in the order in which they were trained."""
    with database.write() as session:
        results.start_evaluation(session, lease)
    trained = []
    while bit_widths := train_next_stage(database, lease, accuracy):
        trained.append(bit_widths)
    return trained


def work_all(database: Database) -> int:
    """Claims and works until nothing is claimable; returns how many evaluations that were."""
    for count in range(1000):
        with database.write() as session:
            lease = leases.claim(session, "worker", 1000.0)
        if lease is None:
            return count
        work(database, lease)
    raise AssertionError("there is always something to claim")


def run_out(database: Database, accuracy: Callable[[Evaluation, str], float] | None = None) -> int:
    """One worker that claims, works and proposes until there is nothing to do; how many evaluations it ran."""
    for count in range(200):
        with database.write() as session:
            lease = leases.claim(session, "worker", 1000.0)
        while lease is None:
            if not propose_next(database):
                return count
            with database.write() as session:
                lease = leases.claim(session, "worker", 1000.0)
        work(database, lease, *([accuracy] if accuracy else []))
    raise AssertionError("there is always something to do")


def record_epoch(session: Any, lease: Lease, stage_id: int, *, epoch: int = 1) -> None:
    results.record_epoch(
        session, lease, stage_id, epoch=epoch, train_loss=1.0 / epoch, validation_accuracy=50.0, learning_rate=0.1
    )


def accept_stage(session: Any, lease: Lease, stage_id: int, **changes: Any) -> None:
    values = {
        "status": "done",
        "validation_accuracy": 90.0,
        "test_accuracy": 89.0,
        "train_seconds": 1.5,
        "provenance": {"threads": 1},
    }
    results.accept_stage(session, lease, stage_id, **(values | changes))


def rows(database: Database, table: Any, **values: Any) -> list[Any]:
    """Rows of a table with those values, by primary key."""
    query = select(table).filter_by(**values).order_by(*table.__table__.primary_key)
    with database.read() as session:
        return list(session.scalars(query))


def status_of(database: Database, search_id: int) -> str:
    with database.read() as session:
        search = get_search(session, search_id)
        assert search is not None
        return search.status


def kinds(database: Database, search_id: int) -> list[str]:
    """The kinds of a search's events, in their order."""
    return [event.kind for event in rows(database, Event, search_id=search_id)]


def stages_in_order(database: Database) -> list[Stage]:
    """All stages by evaluation, the float one first; their ids follow their keys."""
    with database.read() as session:
        ids = session.scalars(select(Evaluation.id).order_by(Evaluation.id)).all()
        return [stage for each in ids for stage in results.stages_of_evaluation(session, each)]


def stages_of(database: Database, evaluation_id: int) -> dict[str, Stage]:
    return {stage.bit_widths: stage for stage in rows(database, Stage, evaluation_id=evaluation_id)}


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def migrate(database: Database, way: Callable[[Config, str], None], revision: str) -> None:
    """Takes a database to a revision, by Alembic's ``upgrade`` or ``downgrade``."""
    config = Config()
    config.set_main_option("script_location", str(Path(searcher.__file__).parents[1] / "migrations"))
    with database.migrate() as connection:
        config.attributes["connection"] = connection
        way(config, revision)


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """Runs each in a thread of its own, all starting together; their results, or the first exception."""
    barrier = threading.Barrier(len(tasks))
    found: list[Any] = [None] * len(tasks)
    raised: list[BaseException] = []

    def run(index: int, task: Callable[[], Any]) -> None:
        try:
            barrier.wait(30)
            found[index] = task()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(index, task), daemon=True) for index, task in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "some threads hang"
    if raised:
        raise raised[0]
    return found
