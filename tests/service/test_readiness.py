"""Whether a server can do its work, as whoever sends it requests asks."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import text

from searcher.database import Database
from searcher.schema import upgrade
from service.app import create_app
from service.settings import Settings


def revise(database: Database, revision: str) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_a_server_is_ready_on_tables_of_its_release_or_of_a_newer_one(client: TestClient, database: Database) -> None:
    answered = client.get("/readyz")
    assert (answered.status_code, answered.json()) == (200, {"status": "ready", "revision": upgrade(database)})
    revise(database, "9999")
    assert client.get("/readyz").json() == {"status": "ready", "revision": "9999"}


def test_a_server_is_not_ready_on_tables_of_an_older_release(client: TestClient, database: Database) -> None:
    revise(database, "0001")

    refused = client.get("/readyz")

    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert "revision 0001" in refused.json()["detail"]
    assert "quantrank db upgrade" in refused.json()["detail"]


def test_a_server_is_not_ready_without_its_database(tmp_path: Path) -> None:
    database = Database("postgresql://somebody:h1dden@127.0.0.1:1/quantrank")
    client = TestClient(create_app(Settings(home=tmp_path), database), base_url="http://127.0.0.1")

    refused = client.get("/readyz")

    assert refused.status_code == 503
    assert "cannot be used" in refused.json()["detail"]
    assert "h1dden" not in refused.text


def test_without_its_database_a_server_lives_and_says_when_to_come_again(tmp_path: Path) -> None:
    database = Database("postgresql://somebody:h1dden@127.0.0.1:1/quantrank")
    client = TestClient(create_app(Settings(home=tmp_path), database), base_url="http://127.0.0.1")
    body = {"task": "digits", "parameter_budget": 20_000}
    asked = [
        client.get("/searches"),
        client.get("/leaderboard?task=digits"),
        client.get("/searches/1/events"),
        client.get("/evaluations/1/model"),
        client.post("/search", json=body),
        client.post("/search", json=body, headers={"Idempotency-Key": "one"}),
        client.post("/searches/1/cancel"),
        client.delete("/searches/1"),
        client.get("/searches", headers={"Authorization": "Bearer qr_somebody"}),
        client.post("/sign-in", data={"key": "qr_somebody"}, headers={"Origin": "http://127.0.0.1"}),
    ]

    assert client.get("/healthz").status_code == client.head("/healthz").status_code == 200
    for each in [*asked, client.get("/readyz")]:
        assert (each.status_code, each.headers["content-type"]) == (503, "application/problem+json"), each.url
        assert int(each.headers["retry-after"]) > 0
        assert "h1dden" not in each.text
    page = client.get("/ui/searches/1", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert int(page.headers["retry-after"]) > 0
