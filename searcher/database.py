"""One database, two backends: SQLite for one host, PostgreSQL for many. Hardly any other code tells them apart."""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, create_engine, event, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import GenericFunction

from qcore.errors import InvalidInput
from searcher.deadline import seconds_left
from searcher.outages import Outage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import URL, Connection

DATABASE_URL = "QUANTRANK_DATABASE_URL"
SQLITE_BUSY_TIMEOUT_MS = 30_000
_INSTRUCTIONS_PER_LOOK = 20_000
"""Of SQLite's virtual machine: about a millisecond."""
_WAL_ATTEMPTS, _WAL_PAUSE_SECONDS = 100, 0.05
_IDLE_IN_TRANSACTION_SECONDS = 60
_PREPARE = "prepare_threshold"
"""Option of PostgreSQL's URL, psycopg's: ``none`` prepares no statements, where connections change hands between two
transactions, as PgBouncer's do."""
_MIGRATION, _TURNS, _EVENTS = 7237410, 7237411, 7237412
"""What advisory locks are for; any numbers that nobody else uses in this database."""
_BUSY_TIMEOUT = "busy timeout"
_AT_THE_END, _AFTERWARDS = "at the end", "afterwards"
_POOL_SIZE = 40
"""More than the API has threads (``service/lanes.py``): none of them waits for another's connection."""
_POOL_SECONDS = 5.0


class database_now(GenericFunction[float]):  # noqa: N801  used as an SQL function
    """The database's clock, in seconds since 1970, at the moment of the statement and not of its transaction."""

    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _(_element: database_now, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _(_element: database_now, _compiler: Any, **_: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def read_clock(session: Session) -> float:
    """What ``database_now`` says at this moment."""
    return session.scalars(select(database_now())).one()


def insert_into(session: Session, table: Any) -> Any:
    """An INSERT that may say what to do about rows that are there: both databases can, each by its own construct."""
    dialect = sqlite_dialect if session.get_bind().dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def take_turns(session: Session, ids: Sequence[int]) -> None:
    """Waits until no other transaction has a turn with any of the ids, and has them until this one ends.

    They are to come in one order everywhere. On SQLite only one transaction writes anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        for each in ids:
            session.execute(select(func.pg_advisory_xact_lock(_EVENTS, each % 2**31)))


def at_the_end(session: Session, call: Callable[[Session], None]) -> None:
    """Has something done last in a session's transaction: what takes a lock that many want holds it briefly then."""
    session.info.setdefault(_AT_THE_END, []).append(call)


def afterwards(session: Session, call: Callable[[Database], None]) -> None:
    """Has something done after a session's transaction is committed, in transactions of its own."""
    session.info.setdefault(_AFTERWARDS, []).append(call)


class Database:
    """Hands out sessions. Safe to share between threads; a session is not.

    ``read`` and ``write`` are one transaction each: committed at the end of the block, rolled back on any exception.
    """

    def __init__(self, url: str | URL, password: str | None = None, setting: str = DATABASE_URL) -> None:
        """Nothing is opened yet. A password that is kept apart from the URL is given beside it; ``setting`` is the
        variable that named the database, which messages name.

        Raises:
            InvalidInput: when the URL is of no database, or has a password too.
        """
        self.url = _with_driver(url) if password is None else _with_password(_with_driver(url), password)
        self.embedded = self.url.get_backend_name() == "sqlite"
        self.setting = setting
        self.engine = create_engine(
            self.url.difference_update_query([_PREPARE]),
            pool_size=_POOL_SIZE,
            pool_use_lifo=True,  # what a connection has prepared is of use to the next that takes it
            pool_timeout=_POOL_SECONDS,
            connect_args={"prepare_threshold": None} if _PREPARE in self.url.query else {},
        )
        if self.embedded:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            from searcher.postgres import OPTIONS, Pulse

            pulse = Pulse()
            event.listen(
                self.engine, "do_connect", lambda _dialect, _record, _given, named: pulse.connect({**OPTIONS, **named})
            )
            event.listen(self.engine, "connect", _prepare_postgres)
            event.listen(self.engine, "checkout", self._check_alive)
        self.outage = Outage()
        self._writing = self.engine.execution_options(quantrank_writes=True)

    @property
    def shown(self) -> str:
        """What the setting says, as it may be shown."""
        if self.setting == DATABASE_URL:
            return described(self.url)
        return str(Path(self.url.database or "").parent)

    def _check_alive(self, connection: Any, _record: object, _handed: object) -> None:
        """Has the pool open another connection in place of one that is broken."""
        dialect = self.engine.dialect
        if connection.is_alive():
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            if dialect.is_disconnect(error, connection, None):
                raise InvalidatePoolError from error
            raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads; on SQLite it waits for nobody."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session
        self.outage.end()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that may write; on SQLite it is the only one that does."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session
            for call in session.info.pop(_AT_THE_END, ()):
                call(session)
        self.outage.end()
        for then in session.info.pop(_AFTERWARDS, ()):
            then(self)

    @contextmanager
    def turn(self, number: int) -> Iterator[bool]:
        """Whether nobody else has the turn of that number, which is then the caller's until the end of the block.

        It is never waited for. Whoever dies or hangs loses it with its connection: it lets few work at once who would
        be in each other's way, and is nothing to rely on. On SQLite everybody always has it.
        """
        if self.embedded:
            yield True
            return
        connection = self.engine.connect()
        try:
            yield bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_TURNS, number))))
        finally:
            with suppress(SQLAlchemyError):  # the server may have ended a transaction that was idle for too long
                connection.commit()  # a rollback would have the driver forget what is prepared
            connection.close()

    @contextmanager
    def migrate(self) -> Iterator[Connection]:
        """A connection in a transaction that no other migration runs beside."""
        if self.embedded:
            self._write_ahead()
        with self._writing.connect() as connection:
            if self.embedded:
                # A table is altered by copying and dropping it, which what refers to its rows would not allow.
                connection.detach()  # the setting ends with the connection; it is refused inside a transaction
                connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            with connection.begin():
                if not self.embedded:
                    # Two processes that start at once take turns; the lock ends with the transaction.
                    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION)))
                yield connection
                if self.embedded:
                    assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all(), "rows refer to none"

    def _write_ahead(self) -> None:
        """Lets readers and a writer work at once; the file stays so. SQLite does not wait for others to do this."""
        for attempt in range(1, _WAL_ATTEMPTS + 1):
            connection = self.engine.raw_connection()  # the statement is refused inside a transaction
            try:
                connection.cursor().execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError:
                if attempt == _WAL_ATTEMPTS:
                    raise
            else:
                return
            finally:
                connection.close()
            time.sleep(_WAL_PAUSE_SECONDS)

    def dispose(self) -> None:
        self.engine.dispose()


def described(url: URL) -> str:
    """A database URL as it may be shown: without user, password and options."""
    return f"{url.get_backend_name()}://{url.host or ''}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def _with_driver(url: str | URL) -> URL:
    variable = DATABASE_URL
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        shown = str(url).split("@")[-1].split("?")[0][:100]
        raise InvalidInput(variable, shown, "is not a database URL", _URL_REMEDY) from None
    if "@" in (parsed.host or ""):
        raise InvalidInput(variable, "(hidden)", "has an @ in its user or password", "write it as %40")
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        threshold = parsed.query.get(_PREPARE, "none")
        if threshold != "none":
            raise InvalidInput(variable, f"?{_PREPARE}={threshold}", "is no such option", f"use {_PREPARE}=none")
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(database=str(Path(parsed.database).absolute()))  # processes on it may be in other folders
    raise InvalidInput(variable, described(parsed), "is neither PostgreSQL nor an SQLite file", _URL_REMEDY)


def _with_password(url: URL, password: str) -> URL:
    if url.password is not None or "password" in url.query or url.get_backend_name() == "sqlite":
        problem = "has a password already" if url.get_backend_name() != "sqlite" else "is a file, which has no password"
        remedy = "leave it out there, as in postgresql://user@host/database, or unset QUANTRANK_DATABASE_PASSWORD_FILE"
        raise InvalidInput("QUANTRANK_DATABASE_URL", described(url), problem, remedy)
    return url.set(password=password)


_URL_REMEDY = "use postgresql://user:password@host/database or sqlite:////path/to/file.db"


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver opens no transaction of its own: _begin_sqlite does
    for pragma in (f"busy_timeout={SQLITE_BUSY_TIMEOUT_MS}", "foreign_keys=ON", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    # A statement that nobody waits for any more is interrupted.
    connection.set_progress_handler(lambda: seconds_left() == 0.0, _INSTRUCTIONS_PER_LOOK)


def _prepare_postgres(connection: Any, _record: object) -> None:
    # A process that is paused or cut off in the middle of a transaction holds its locks no longer than that.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_IN_TRANSACTION_SECONDS}s'")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    left = seconds_left()
    wait = SQLITE_BUSY_TIMEOUT_MS if left is None else min(SQLITE_BUSY_TIMEOUT_MS, round(1000 * left))
    if connection.info.get(_BUSY_TIMEOUT) != wait:
        connection.info[_BUSY_TIMEOUT] = wait
        connection.connection.cursor().execute(f"PRAGMA busy_timeout={wait}")
    # A transaction that reads first and then writes could find itself overtaken; one that writes says so at once.
    writes = connection.get_execution_options().get("quantrank_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
