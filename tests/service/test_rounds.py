"""What a server does though no worker runs, and that it says that none does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from searcher import leases
from searcher.database import Database, database_now
from searcher.next_proposal import propose_next
from searcher.rounds import make_round
from searcher.tables import Evaluation
from service.rounds import Rounds
from tests.service.processes import wait_until

BODY = {"task": "digits", "parameter_budget": 4000, "blocks": ["basic"], "depths": [8], "bit_widths": ["W2A2"]}
TOLD = "no worker runs: start one with `quantrank worker`"


def test_a_time_limit_ends_a_search_that_no_worker_trains_whoever_looks(client: TestClient, database: Database) -> None:
    endless = client.post("/search", json=BODY).json()["links"]["self"]
    limited = client.post("/search", json=BODY | {"time_limit_s": 0.2}).json()["links"]["self"]
    rounds = [Rounds(database, 0.05) for _ in range(2)]
    for each in rounds:
        each.start()
    try:
        wait_until(lambda: client.get(limited).json()["status"] != "running")
    finally:
        for each in rounds:
            each.stop()
    found = client.get(limited).json()
    assert (found["status"], found["ended_by"]) == ("finished", "time_limit_s")
    assert client.get(endless).json()["status"] == "running"


@pytest.mark.slow
def test_a_server_without_workers_ends_searches_at_their_limits(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--workers", "0"]
    environment["QUANTRANK_HOME"] = str(tmp_path)
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split("ready at ")[1].strip()
        with httpx.Client(base_url=url, timeout=30) as http:
            search = http.post("/search", json=BODY | {"time_limit_s": 0.1}).json()["links"]["self"]
            wait_until(lambda: http.get(search).json()["status"] == "finished")
    finally:
        server.terminate()
        assert server.wait(60) in (0, -15)


def test_evaluations_whose_workers_died_too_often_are_given_up_without_one(
    client: TestClient, database: Database
) -> None:
    search = client.post("/search", json=BODY).json()
    assert propose_next(database)
    make_round(database)
    with database.write() as session:
        assert leases.claim(session, "dead", 1000.0)
        ended = {"lease_ends": database_now() - 1.0, "fruitless_attempts": leases.MOST_ATTEMPTS}
        session.execute(update(Evaluation).values(ended))
    make_round(database)
    found = client.get(search["links"]["self"]).json()
    assert (found["status"], found["progress"]["evaluations"]) == ("failed", {"lost": 1})


def test_that_no_worker_runs_is_said_by_workers_the_search_and_the_pages(client: TestClient) -> None:
    search = client.post("/search", json=BODY).json()
    assert client.get("/workers").json() == {"workers": [], "problem": TOLD, "next": None}
    assert search["progress"]["waits_for"] == TOLD
    for page in ("/", search["links"]["page"]):
        assert 'id="no-worker"' in client.get(page).text
