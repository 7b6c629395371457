"""Databases: URLs, transactions, and how SQLite serves several threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from building import at_once
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

from qcore import InvalidInput
from searcher.database import Database
from searcher.deadline import Deadline, waited_for
from searcher.outages import is_busy
from searcher.tables import Candidate, Worker

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

THREADS, WRITES = 8, 20


def _worker(number: int = 0, **values: object) -> Worker:
    fields = {"id": str(number), "host": "here", "pid": 0, "device": "cpu", "versions": {}}
    fields |= {"cores": 1, "threads": 1, "lease_seconds": 15.0}
    return Worker(**(fields | values))


def _count(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Worker)).one()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://somebody:h1dden@host/database",
        "oracle+cx_oracle://somebody:h1dden@host/database",
        "postgresql+asyncpg://somebody:h1dden@host/database",
        "mysql+unknown://somebody:h1dden@host/database",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///file.db",
        "postgresql//somebody:h1dden@host/database",
        "somebody:h1dden@host/database",
        "/path/to/file.db",
        "mysql://host/database?password=h1dden",
        "postgresql://somebody:h1dden@host:abc/database",
        "",
    ],
)
def test_a_url_of_no_known_database_is_refused_with_a_remedy_and_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Database(url)
    assert refused.value.field == "QUANTRANK_DATABASE_URL"
    assert "postgresql://user:password@host/database" in refused.value.remedy
    assert "sqlite:////path" in refused.value.remedy
    assert "h1dden" not in str(refused.value)


def test_a_password_with_an_unescaped_at_sign_is_not_shown_in_part() -> None:
    with pytest.raises(InvalidInput, match="%40") as refused:
        Database("postgresql://somebody:h1d@den@host/database")
    assert "den" not in str(refused.value).replace("hidden", "")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_postgresql_means_the_same_driver(scheme: str) -> None:
    database = Database(f"{scheme}://somebody:h1dden@host:5433/name")
    assert database.url.drivername == "postgresql+psycopg"
    assert (database.url.host, database.url.port, database.url.database) == ("host", 5433, "name")
    assert database.url.password == "h1dden"
    assert not database.embedded


def test_a_url_is_shown_without_its_password() -> None:
    assert "h1dden" not in str(Database("postgresql://somebody:h1dden@host/name").url)


def test_what_a_write_wrote_is_there_after_it(database: Database) -> None:
    with database.write() as session:
        session.add(_worker())
    with database.read() as session:
        assert _count(session) == 1


def test_a_write_that_raises_is_rolled_back(database: Database) -> None:
    def write_half() -> None:
        with database.write() as session:
            session.add(_worker())
            session.flush()
            assert _count(session) == 1
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    with database.read() as session:
        assert _count(session) == 0
    with database.write() as session:
        session.add(_worker())


def test_a_write_that_is_refused_leaves_nothing_behind(database: Database) -> None:
    def write_orphan() -> None:
        with database.write() as session:
            session.add(_worker(1))
            session.flush()
            session.add(Candidate(search_id=999, architecture="a", block="b", depth=1, width=1, parameters=1))

    with pytest.raises(IntegrityError):
        write_orphan()
    with database.read() as session:
        assert _count(session) == 0


def test_rows_can_be_read_after_their_session_has_ended(database: Database) -> None:
    with database.write() as session:
        session.add(_worker(host="there"))
    with database.read() as session:
        worker = session.get_one(Worker, "0")
    assert worker.host == "there"


def test_writers_in_several_threads_all_succeed(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        session.add(_worker())

    def count_up() -> None:
        for _ in range(WRITES):
            with sqlite_database.write() as session:
                # Read first, then write: what another thread wrote in between would be lost, or refused.
                found = session.scalars(select(Worker.pid)).one()
                session.execute(update(Worker).values(pid=found + 1))

    at_once(*[count_up] * THREADS)
    with sqlite_database.read() as session:
        assert session.scalars(select(Worker.pid)).one() == THREADS * WRITES


def test_writers_with_connections_of_their_own_all_succeed(sqlite_database: Database) -> None:
    others = [Database(sqlite_database.url.render_as_string()) for _ in range(3)]

    def add(database: Database, first: int) -> None:
        for number in range(first, first + WRITES):
            with database.write() as session:
                session.add(_worker(number))

    at_once(*[lambda each=each, first=index * WRITES: add(each, first) for index, each in enumerate(others)])
    with sqlite_database.read() as session:
        assert _count(session) == len(others) * WRITES
    for other in others:
        other.dispose()


def test_readers_are_not_held_up_by_an_open_writer_and_see_what_was_committed(database: Database) -> None:
    with database.write() as writer:
        writer.add(_worker(1))
        writer.flush()
        for _ in range(2):
            with database.read() as reader:
                assert _count(reader) == 0
    with database.read() as reader:
        assert _count(reader) == 1


def test_a_writer_is_not_held_up_by_an_open_reader(database: Database) -> None:
    with database.read() as reader:
        assert _count(reader) == 0
        with database.write() as writer:
            writer.add(_worker(1))
    with database.read() as reader:
        assert _count(reader) == 1


def test_a_statement_ends_with_the_patience_of_whoever_waits_for_it(database: Database) -> None:
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e9) SELECT count(*) FROM n"
    started = time.monotonic()
    with waited_for(Deadline(0.5)), pytest.raises(OperationalError) as ended, database.read() as session:
        session.execute(text(count))
    assert is_busy(ended.value)
    assert time.monotonic() - started < 30
    with database.read() as session:
        assert _count(session) == 0


def test_a_lock_is_waited_for_as_long_as_somebody_waits(database: Database) -> None:
    with database.write() as session:
        session.add(_worker())

    def change() -> None:
        with waited_for(Deadline(0.5)), database.write() as session:
            session.execute(update(Worker).values(pid=1))

    with database.write() as holder:
        holder.execute(update(Worker).values(pid=2))
        with ThreadPoolExecutor(1) as pool, pytest.raises(OperationalError) as ended:
            pool.submit(change).result(30)
    assert is_busy(ended.value)
    with database.read() as session:
        assert session.scalars(select(Worker.pid)).one() == 2


def test_every_sqlite_connection_is_prepared_alike(sqlite_database: Database) -> None:
    with sqlite_database.read() as one, sqlite_database.read() as other, sqlite_database.write() as third:
        for session in (one, other, third):
            found = [
                session.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
            ]
            assert found == ["wal", 30_000, 1, 1]


@pytest.mark.parametrize(("option", "prepares"), [({}, True), ({"prepare_threshold": "none"}, False)])
def test_statements_are_prepared_unless_connections_change_hands_between_transactions(
    postgres_database: Database, option: dict[str, str], prepares: bool
) -> None:
    url = postgres_database.url.update_query_dict(option).render_as_string(hide_password=False)
    database = Database(url)
    with database.read() as session:
        for _ in range(10):
            _count(session)
        found = session.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
    assert (found > 0) == prepares
    assert database.url.render_as_string(hide_password=False) == url  # as others are told it
    database.dispose()


def test_no_other_threshold_for_prepared_statements_is_taken() -> None:
    with pytest.raises(InvalidInput) as refused:
        Database("postgresql://host/database?prepare_threshold=7")
    assert refused.value.remedy == "use prepare_threshold=none"


@pytest.mark.parametrize("just_seconds", [0.0, 60.0], ids=["a while ago", "just now"])
def test_a_connection_that_broke_is_replaced(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch, just_seconds: float
) -> None:
    def own_process() -> int:
        with postgres_database.read() as session:
            return int(session.scalars(text("SELECT pg_backend_pid()")).one())

    monkeypatch.setattr("searcher.postgres._JUST_SECONDS", just_seconds)
    first = own_process()
    assert own_process() == first
    other = Database(postgres_database.url)
    with other.read() as session:
        assert session.scalars(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first}).one()
    other.dispose()
    assert own_process() != first


@pytest.mark.parametrize(("just_seconds", "asked"), [(60.0, 0), (0.0, 3)])
def test_a_server_that_just_answered_is_not_asked_whether_it_lives(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch, just_seconds: float, asked: int
) -> None:
    dialect, pings = postgres_database.engine.dialect, []

    def ping(connection: Any) -> bool:
        pings.append(connection)
        return type(dialect).do_ping(dialect, connection)

    with postgres_database.read() as session:
        session.execute(text("SELECT 1"))
    monkeypatch.setattr(dialect, "do_ping", ping)
    monkeypatch.setattr("searcher.postgres._JUST_SECONDS", just_seconds)
    for _ in range(3):
        with postgres_database.read() as session:
            session.execute(text("SELECT 1"))
    assert len(pings) == asked
