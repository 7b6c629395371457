"""What tests of the service share: the API on both databases, without workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from searcher.database import Database
from service.app import create_app
from service.settings import Settings


@pytest.fixture
def client(database: Database, tmp_path: Path) -> Iterator[TestClient]:
    # A pool's API does not look for data; here both backends should.
    settings = Settings(home=tmp_path, database_url=None)
    with TestClient(create_app(settings, database), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def embedded_client(sqlite_database: Database, tmp_path: Path) -> Iterator[TestClient]:
    """For what has nothing to do with the kind of database."""
    settings = Settings(home=tmp_path, database_url=None)
    with TestClient(create_app(settings, sqlite_database), base_url="http://127.0.0.1") as client:
        yield client
