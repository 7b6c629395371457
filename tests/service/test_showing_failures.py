"""How a search that failed is shown: REST, pages, the command, the client."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from live import serving

from searcher import leases, results
from searcher.database import Database
from searcher.next_proposal import propose_next
from service.app import create_app
from service.cli import main
from service.client import Client
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 4000, "blocks": ["basic"], "depths": [8], "bit_widths": ["W2A2"]}
TOLD = "the only evaluation that ended failed: basic-L8-D3 with seed 0: RuntimeError: <no> luck"


def fail(database: Database) -> None:
    """Has the only candidate of the only search fail, once it is posted."""
    pause = threading.Event()
    while not propose_next(database):
        pause.wait(0.05)
    with database.write() as session:
        lease = leases.claim(session, "worker", 1000.0)
        assert lease is not None
        results.fail_evaluation(session, lease, "RuntimeError: <no> luck")


def test_a_failed_search_is_shown_with_its_reason_and_found_by_its_status(
    client: TestClient, database: Database
) -> None:
    search = client.post("/search", json=BODY).json()
    assert (search["status"], search["problem"]) == ("running", None)
    fail(database)

    found = client.get(search["links"]["self"]).json()
    assert (found["status"], found["ended_by"], found["problem"]) == ("failed", "failed", TOLD)
    for status, listed in (("failed", [search["id"]]), ("finished", [])):
        assert [each["id"] for each in client.get("/searches", params={"status": status}).json()["searches"]] == listed
    told = client.get(search["links"]["events"]).text
    assert "event: search_failed" in told
    page = client.get(search["links"]["page"]).text
    assert (
        "Failed: the only evaluation that ended failed: basic-L8-D3 with seed 0: RuntimeError: &lt;no&gt; luck" in page
    )
    assert "This search failed without a W2A2 result." in page
    shown = client.get("/", params={"status": "failed"}).text
    assert f'id="search-{search["id"]}"' in shown
    assert "<option selected>failed</option>" in shown


def test_whoever_watches_is_told_and_the_command_ends_with_status_1(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))
    app = create_app(Settings(home=tmp_path, database_url=None), sqlite_database)
    failing = threading.Thread(target=fail, args=(sqlite_database,), daemon=True)
    with serving(app) as url, Client(url) as client:
        failing.start()
        asked = ["--task", "digits", "--architectures", "basic-L8-D3", "--parameter-budget", "4000"]
        assert main(["search", *asked, "--bit-widths", "W2A2", "--watch", "--url", url]) == 1
        failing.join(60)
        assert [each.kind for each in client.events(1)][-1] == "search_failed"
    assert f"Search 1 failed: {TOLD}" in capsys.readouterr().out
