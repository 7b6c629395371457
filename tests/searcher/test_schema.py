"""Migrations: the tables they make, and starting on a database that is fresh, newer or away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from building import migrate
from sqlalchemy import MetaData, inspect, select, text
from sqlalchemy.exc import IntegrityError

from qcore import InvalidInput
from searcher.database import Database
from searcher.schema import require_current, upgrade
from searcher.tables import Base, Candidate, Search

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


def _differences(database: Database, metadata: MetaData) -> list[object]:
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def _set_revision(database: Database, revision: str) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_migrations_make_the_tables_that_the_models_describe(database: Database) -> None:
    assert _differences(database, Base.metadata) == []


def test_a_table_that_no_migration_makes_would_be_noticed(database: Database) -> None:
    assert len(_differences(database, MetaData())) > len(Base.metadata.tables)


def test_upgrading_again_changes_nothing(database: Database) -> None:
    with database.write() as session:
        session.execute(text("INSERT INTO missing_data VALUES ('w', 'digits', '1', 'gone')"))
    before = _tables(database)
    assert upgrade(database) == upgrade(database)
    assert _tables(database) == before
    with database.read() as session:
        assert session.execute(text("SELECT worker_id, task FROM missing_data")).all() == [("w", "digits")]


def test_downgrading_takes_every_table_away_and_upgrading_brings_them_back(fresh: Database) -> None:
    upgrade(fresh)
    migrate(fresh, command.downgrade, "base")
    assert _tables(fresh) <= {"alembic_version"}
    upgrade(fresh)
    require_current(fresh)
    assert _differences(fresh, Base.metadata) == []


SEARCH_OF_REVISION_2 = """
INSERT INTO searches (status, task, task_version, numerics_version, parameter_budget, bit_widths, seeds, engine,
    max_evaluations, recipe, float_recipe_hash, retraining_recipe_hash, created_at, ended_at)
VALUES ('finished', 'digits', '1', 3, 20000, '["W2A2"]', '[0, 1]', 'optuna', NULL, '{}', 'f', 'r', 1700000000.25, NULL)
"""
SEARCH_WITHOUT_PARAMETER_BUDGET = """
INSERT INTO searches (status, task, task_version, numerics_version, bit_widths, seeds, engine, rungs, recipe,
    float_recipe_hash, retraining_recipe_hash, created_at)
VALUES ('finished', 'digits', '1', 3, '["W2A2"]', '[0, 1]', 'optuna', '[]', '{}', 'f', 'r', 1700000000.25)
"""
CANDIDATE_OF_REVISION_2 = """
INSERT INTO candidates (search_id, architecture, block, depth, width, parameters)
VALUES (1, 'basic-L8-D3', 'basic', 8, 3, 2965)
"""


def test_searches_of_before_there_were_other_budgets_are_kept(fresh: Database) -> None:
    migrate(fresh, command.upgrade, "0002")
    with fresh.write() as session:
        session.execute(text(SEARCH_OF_REVISION_2))
        session.execute(text(CANDIDATE_OF_REVISION_2))
    upgrade(fresh)
    with fresh.write() as session:
        (search,) = session.scalars(select(Search)).all()
        assert (search.id, search.status, search.seeds, search.created_at) == (1, "finished", [0, 1], 1700000000.25)
        assert (search.parameter_budget, search.model_bytes_budget, search.bit_operations_budget) == (
            20_000,
            None,
            None,
        )
        assert (search.sampler, search.rungs, search.max_seeds, search.priority) == ("tpe", [], 1, 0)
        assert [each.search_id for each in session.scalars(select(Candidate))] == [1]
        session.execute(text(SEARCH_WITHOUT_PARAMETER_BUDGET))
    assert _differences(fresh, Base.metadata) == []
    with fresh.read() as session:
        assert session.scalars(select(Search.id).order_by(Search.id)).all() == [1, 2]
    with pytest.raises(IntegrityError), fresh.write() as session:
        session.execute(text(CANDIDATE_OF_REVISION_2.replace("1,", "3,")))


def test_a_search_without_a_parameter_budget_may_be_downgraded(fresh: Database) -> None:
    upgrade(fresh)
    with fresh.write() as session:
        session.execute(text(SEARCH_WITHOUT_PARAMETER_BUDGET))
        session.execute(text(CANDIDATE_OF_REVISION_2))
    migrate(fresh, command.downgrade, "0002")
    with fresh.read() as session:
        assert session.execute(text("SELECT id, parameter_budget FROM searches")).all() == [(1, 100_000_000)]
        assert session.execute(text("SELECT search_id FROM candidates")).all() == [(1,)]


UPGRADE_WHEN_TOLD = """
import sys
from searcher.database import Database
from searcher.schema import require_current, upgrade
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
upgrade(database)
require_current(database)
print("done", flush=True)
"""


def test_two_processes_may_upgrade_a_fresh_postgresql_database_at_once(fresh_postgres: str) -> None:
    _upgrade_at_once(fresh_postgres, 2)


@pytest.mark.slow
def test_processes_may_upgrade_a_fresh_sqlite_database_at_once(tmp_path: Path) -> None:
    for number in range(3):
        _upgrade_at_once(f"sqlite:///{tmp_path / str(number)}.db", 4)


def _upgrade_at_once(url: str, count: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE_WHEN_TOLD, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("now\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in ended] == ["done\n"] * count, [error[-500:] for _, error in ended]


def test_a_current_database_is_accepted(database: Database) -> None:
    require_current(database)


def test_a_fresh_database_is_refused_until_it_is_upgraded(fresh: Database) -> None:
    with pytest.raises(InvalidInput, match="no tables yet") as refused:
        require_current(fresh)
    assert refused.value.field == "QUANTRANK_DATABASE_URL"
    assert "quantrank db upgrade" in refused.value.remedy
    upgrade(fresh)
    require_current(fresh)


def test_a_database_of_a_newer_release_is_refused(database: Database) -> None:
    _set_revision(database, "9999")
    for use in (require_current, upgrade):
        with pytest.raises(
            InvalidInput, match=r"newer release of quantrank \(revision 9999; this one knows"
        ) as refused:
            use(database)
        assert refused.value.remedy == "install that release, or name another database"


@pytest.mark.parametrize("revision", [None, "ae1027a6acf"])
def test_the_database_of_another_program_is_refused_and_left_as_it_is(fresh: Database, revision: str | None) -> None:
    with fresh.write() as session:
        session.execute(text("CREATE TABLE invoices (id INTEGER)"))
        if revision is not None:
            session.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})
    for use in (require_current, upgrade):
        with pytest.raises(InvalidInput, match="is another program's database"):
            use(fresh)
    assert set(inspect(fresh.engine).get_table_names()) <= {"invoices", "alembic_version"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://somebody:h1dden@127.0.0.1:1/quantrank",
        "postgresql://somebody:h1dden@127.0.0.1:1/quantrank?connect_timeout=1",
        "postgresql://127.0.0.1:1/quantrank?password=h1dden&user=somebody",
        "sqlite:////nowhere/at/all/quantrank.db",
    ],
)
def test_a_database_that_cannot_be_reached_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be used") as refused:
        require_current(Database(url))
    assert refused.value.field == "QUANTRANK_DATABASE_URL"
    assert ("that its folder is there" if url.startswith("sqlite") else "start the database") in refused.value.remedy
    assert "h1dden" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("not a database, but long enough to be read as one" * 100)
    for use in (require_current, upgrade):
        with pytest.raises(InvalidInput, match="not a database"):
            use(Database(f"sqlite:///{file}"))


def test_a_database_that_does_not_exist_is_refused_without_its_password(postgres_url: URL) -> None:
    url = postgres_url.set(database="nowhere", password="h1dden").render_as_string(hide_password=False)
    with pytest.raises(InvalidInput, match="nowhere") as refused:
        require_current(Database(url))
    assert "h1dden" not in str(refused.value)
