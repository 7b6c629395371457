"""What pages ask of a large PostgreSQL database: its planner reads no large table from end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, text

from benchmarks import scale
from qcore import BitWidths
from searcher import leases
from searcher.board import SORT_KEYS, Filters, Order
from searcher.boards import Boards
from searcher.counting import catch_up
from searcher.curves import curve_of, learning_curves
from searcher.database import Database
from searcher.events import events_after, latest_event
from searcher.leaderboard import leaderboard_of_search, leaderboard_of_task
from searcher.progress import candidates_of, progress
from searcher.results import stages_of_evaluation
from searcher.searches import list_searches
from searcher.serving_order import note_served, searches_in_order, searches_to_ask
from searcher.tables import Search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL
    from sqlalchemy.orm import Session

LARGE = {"candidates", "curve_points", "evaluations", "events", "proposals", "stages", "standings"}
BIT_WIDTHS = [BitWidths.parse(bits) for bits in scale.BIT_WIDTHS]


@pytest.fixture(scope="module")
def filled(postgres_url: URL) -> Iterator[Database]:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE filled TEMPLATE migrated"))
        database = Database(postgres_url.set(database="filled").render_as_string(hide_password=False))
        scale.fill(database, 20_000)
        yield database
        database.dispose()
        connection.execute(text("DROP DATABASE filled WITH (FORCE)"))
    engine.dispose()


def scanned(database: Database, use: Callable[[Session], object]) -> set[str]:
    """Large tables that some statement reads from end to end."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as session:
            use(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert asked
    found: set[str] = set()
    with database.engine.connect() as connection:
        for statement, parameters in asked:
            (plan,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
            found |= _read_whole(plan["Plan"])
    return found & LARGE


def _read_whole(plan: dict[str, Any]) -> set[str]:
    own = {plan["Relation Name"]} if plan["Node Type"].endswith("Seq Scan") else set()
    return own.union(*(_read_whole(each) for each in plan.get("Plans", [])))


def board(*arguments: Any, **options: Any) -> Callable[[Session], object]:
    return lambda session: leaderboard_of_task(session, scale.TASK, scale.RECIPE, BIT_WIDTHS, *arguments, **options)


def of_search(session: Session) -> Search:
    return session.get_one(Search, 7)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(board(Filters(), Order(limit=50)), id="leaderboard"),
        *(pytest.param(board(Filters(), Order(f"-{key}", limit=50)), id=f"by {key}") for key in SORT_KEYS),
        pytest.param(board(Filters("basic", 50_000), Order(limit=50), search_id=7), id="filtered"),
        pytest.param(lambda session: leaderboard_of_search(session, of_search(session)), id="of a search"),
        pytest.param(lambda session: progress(session, of_search(session)), id="progress"),
        pytest.param(lambda session: candidates_of(session, of_search(session)), id="candidates"),
        pytest.param(lambda session: learning_curves(session, of_search(session), [1801, 1802]), id="curves"),
        pytest.param(lambda session: list_searches(session, 20), id="searches"),
        pytest.param(lambda session: latest_event(session, 7), id="latest event"),
        pytest.param(lambda session: events_after(session, 7, 5), id="events"),
        pytest.param(
            lambda session: [curve_of(session, each.id) for each in stages_of_evaluation(session, 7)], id="one"
        ),
    ],
)
def test_no_large_table_is_read_from_end_to_end(filled: Database, use: Callable[[Session], object]) -> None:
    assert scanned(filled, use) == set()


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda session: leases.claim(session, "worker", 10.0), id="claim"),
        pytest.param(lambda session: leases.claim(session, "worker", 10.0, {7: 1}), id="claim after others were asked"),
        pytest.param(lambda session: leases.claim_evaluation(session, 7, "worker", 10.0), id="claim by number"),
        pytest.param(lambda session: note_served(session, 7), id="note who was served"),
        pytest.param(lambda session: leases.claimable(session, "ray", 1, [(1, 2)], {7: 1}), id="what Ray places"),
        pytest.param(lambda session: leases.count_claimable(session, "optuna", 16), id="count of what is queued"),
        pytest.param(lambda session: searches_to_ask(session, "ray", "", {7: 1}), id="who is asked first"),
        pytest.param(lambda session: searches_in_order(session, "optuna", "worker"), id="who is proposed for"),
        pytest.param(leases.bury_lost, id="lost ones"),
    ],
)
def test_workers_look_for_work_without_reading_what_has_ended(
    filled: Database, use: Callable[[Session], object]
) -> None:
    assert scanned(filled, use) == set()


def test_looking_for_uncounted_results_reads_no_large_table_either(filled: Database) -> None:
    assert scanned(filled, lambda _: catch_up(filled)) == set()


def test_reading_a_table_from_end_to_end_would_be_noticed(filled: Database) -> None:
    assert scanned(filled, lambda session: session.execute(text("SELECT avg(train_seconds) FROM stages"))) == {"stages"}


def test_what_was_filled_is_as_if_it_had_been_counted(filled: Database) -> None:
    """The benchmark measures what there would be."""
    with filled.read() as session:
        found = leaderboard_of_task(session, scale.TASK, scale.RECIPE, BIT_WIDTHS, Filters(), Order(limit=50))
        for entry in found.entries:
            assert entry.ranking_accuracy is not None
            assert entry.ranking_accuracy == pytest.approx(sum(entry.ranking_accuracies) / len(entry.seeds))
            assert entry.seeds == list(scale.SEEDS)
        assert leaderboard_of_task(
            session, scale.TASK, scale.RECIPE, BIT_WIDTHS, Filters(), Order(), boards=Boards()
        ).total == (2000)
