"""Processes of an earlier release go on while and after the tables become a newer one's (docs/operations.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from building import migrate, post, work_all
from released import read, recorded, use
from sqlalchemy.exc import DBAPIError

from searcher.leaderboard import search_leaderboard
from searcher.schema import upgrade
from searcher.tables import Base, Search

if TYPE_CHECKING:
    from searcher.database import Database

PREPARED = 6
"""So often a statement runs until psycopg has the server keep its plan, which a migration must not spoil."""

EXPANSIONS = (
    "ALTER TABLE workers ADD COLUMN model TEXT, ADD COLUMN cpus INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE searches ADD COLUMN note TEXT, ALTER COLUMN parameter_budget DROP NOT NULL",
    *(f"ALTER TABLE {name} ADD COLUMN added INTEGER NOT NULL DEFAULT 1" for name in Base.metadata.tables),
    "CREATE TABLE pools (id INTEGER PRIMARY KEY)",
    "CREATE INDEX ix_workers_host ON workers (host)",
)


@pytest.mark.parametrize("release", recorded(), ids=lambda path: path.stem)
def test_a_connection_of_an_earlier_release_goes_on_when_the_tables_are_upgraded(
    fresh: Database,
    release: Path,
) -> None:
    tables = read(release)
    migrate(fresh, command.upgrade, release.stem)
    with fresh.engine.connect() as connection:
        for number in range(PREPARED):
            use(connection, tables, number)
            connection.commit()
        upgrade(fresh)
        use(connection, tables, PREPARED)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE stages DROP COLUMN divergence",
        "ALTER TABLE stages RENAME COLUMN epochs TO epochs_to_do",
        "ALTER TABLE workers ADD COLUMN cpus INTEGER NOT NULL",
        "ALTER TABLE workers ALTER COLUMN memory_bytes SET NOT NULL",
        "ALTER TABLE stages ALTER COLUMN key TYPE integer USING 0",
        "ALTER TABLE curve_points ADD CHECK (epoch < 100)",
        "DROP TABLE missing_data",
    ],
)
def test_what_an_earlier_release_cannot_live_with_would_be_noticed(postgres_database: Database, change: str) -> None:
    tables = read(recorded()[0])
    with postgres_database.engine.connect() as connection:
        use(connection, tables, 0)
        connection.execute(sa.text(change))
        with pytest.raises((DBAPIError, AssertionError)):
            use(connection, tables, 1)


def test_what_an_earlier_release_can_live_with_may_be_done(postgres_database: Database) -> None:
    tables = read(recorded()[0])
    with postgres_database.engine.connect() as connection:
        for number in range(PREPARED):
            use(connection, tables, number)
        for expansion in EXPANSIONS:
            connection.execute(sa.text(expansion))
        use(connection, tables, PREPARED)


def test_this_release_lives_with_all_that_the_next_may_do(postgres_database: Database) -> None:
    database = postgres_database

    def search_and_work(width: int) -> list[str]:
        search_id = post(database, proposed=True, widths=[width], seeds=list(range(PREPARED)))
        assert work_all(database) == PREPARED
        with database.read() as session:
            return [each.architecture for each in search_leaderboard(session, session.get_one(Search, search_id))]

    assert search_and_work(3) == ["basic-L8-D3"]
    with database.engine.begin() as other:
        for expansion in EXPANSIONS:
            other.execute(sa.text(expansion))
    assert search_and_work(4) == ["basic-L8-D4"]
