"""Requests where the database's file system is really full."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from callers import bearer, make_key
from fastapi.testclient import TestClient
from playing import rows
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from searcher.database import Database
from searcher.tables import Search
from service.access.roles import Role
from service.app import create_app
from service.settings import Settings
from tests.disks import fill

BODY = {"task": "digits", "parameter_budget": 20_000}
SIZE = 40_000_000

_numbers = itertools.count()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL, which runs as another user, may enter: pytest's are closed."""
    folder = Path(tempfile.mkdtemp(prefix="qr-small-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def small(
    request: pytest.FixtureRequest, open_folder: Path, mount: Callable[[Path, int], None]
) -> Iterator[tuple[Database, Path]]:
    """A database on a file system of its own, and that."""
    folder = open_folder / "small"
    mount(folder, SIZE)
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / "quantrank.db")
        database = Database(f"sqlite:///{folder / 'quantrank.db'}")
        yield database, folder
        database.dispose()
        return
    server: URL = request.getfixturevalue("postgres_url")
    owner = Path(str(server.query["host"])).owner()
    shutil.chown(folder, owner)
    name = f"small_{next(_numbers)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE TABLESPACE {name} LOCATION '{folder}'"))
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated TABLESPACE {name}"))
        database = Database(server.set(database=name).render_as_string(hide_password=False))
        yield database, folder
        database.dispose()
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        connection.execute(text(f"DROP TABLESPACE {name}"))
    engine.dispose()


def test_a_full_disk_is_told_with_its_remedy_and_nothing_is_stored(
    small: tuple[Database, Path], tmp_path: Path
) -> None:
    database, folder = small
    key = bearer(make_key(database, Role.SUBMIT))
    client = TestClient(create_app(Settings(home=tmp_path, database_url=None), database), base_url="http://127.0.0.1")
    ballast = fill(folder)

    refused = client.post("/search", json=BODY, headers=key)

    assert refused.status_code == 507
    assert refused.headers["content-type"] == "application/problem+json"
    assert "quantrank gc" in refused.json()["detail"]
    assert rows(database, Search) == []
    assert client.get("/readyz").status_code == client.get("/searches").status_code == 200
    ballast.unlink()
    assert client.post("/search", json=BODY, headers=key).status_code == 201
