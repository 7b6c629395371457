"""The pool of docker-compose.yml, rehearsed: what a user would see who starts it, searches and stops it."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path

import httpx
import pytest
from rehearsal import CHECKOUT, Rehearsal, documented

EPOCH = {"schedule": {"epochs": 1, "warmup_epochs": 0}}
SEARCH = {
    "task": "digits",
    "parameter_budget": 6000,
    "blocks": ["basic"],
    "depths": [8],
    "widths": [3, 4],
    "bit_widths": ["W2A2"],
    "recipe": {"float_part": EPOCH, "retraining": EPOCH},
}


def run_a_search(http: httpx.Client, **fields: object) -> list[str]:
    """Posts a search, watches it to its end, and returns the architectures of its leaderboard."""
    search = http.post("/search", json=SEARCH | fields).raise_for_status().json()
    with http.stream("GET", search["links"]["events"], timeout=180) as events:
        assert [line for line in events.iter_lines() if line.startswith("event: ")][-1] == "event: search_finished"
    return architectures(http, search["id"])


def architectures(http: httpx.Client, search_id: int) -> list[str]:
    """Those of a search's leaderboard."""
    board = http.get(f"/searches/{search_id}/leaderboard").raise_for_status().json()
    return sorted(entry["architecture"] for entry in board["entries"])


def wait_for_workers(http: httpx.Client, count: int) -> None:
    """Until so many have registered: one that is told to stop before it listens would just be ended."""
    pause = threading.Event()
    for _ in range(300):
        if len(http.get("/workers").json()["workers"]) >= count:
            return
        pause.wait(0.2)
    raise AssertionError(f"there are never {count} workers")


def test_the_pool_starts_searches_and_stops_cleanly(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path)
    with rehearsal.running() as ended, httpx.Client(base_url=rehearsal.url, timeout=30) as http:
        assert http.get("/searches").status_code == 401
        http.headers["authorization"] = f"Bearer {rehearsal.secret('bootstrap_key')}"
        assert run_a_search(http) == ["basic-L8-D3", "basic-L8-D4"]
        wait_for_workers(http, 2)
        told = re.findall(r"\bquantrank_\w+", (CHECKOUT / "docs/operations.md").read_text())
        assert [name for name in told if f"\n{name}" not in http.get("/metrics").text] == []
    assert told
    assert {line["level"] for line in map(json.loads, rehearsal.log("worker").splitlines())} == {"info"}
    assert ended == {"worker": [0, 0], "api": [0], "migrate": [0], "postgres": [0]}, rehearsal.log("worker")
    assert len(list((tmp_path / "data/artifacts/networks").rglob("*.safetensors"))) == 4


@pytest.mark.slow
def test_the_pool_places_searches_on_its_ray_cluster(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, "ray")
    with rehearsal.running() as ended, httpx.Client(base_url=rehearsal.url, timeout=30) as http:
        http.headers["authorization"] = f"Bearer {rehearsal.secret('bootstrap_key')}"
        assert run_a_search(http, engine="ray") == ["basic-L8-D3", "basic-L8-D4"]
        wait_for_workers(http, 2)  # which have nothing to do with it
    own = {"worker": [0, 0], "api": [0], "migrate": [0], "postgres": [0]}
    of_ray = {"ray-head": [1], "ray-worker": [1, 1]}  # which Ray ends with, having let its processes go
    assert ended == {"ray-driver": [0], **of_ray, **own}
    nodes = rehearsal.log("ray-worker")
    assert nodes.count("finished draining") == 2, nodes  # status 1 alone could be that of a node that never started


@pytest.mark.slow
def test_a_backup_of_the_pool_is_restored_to_an_empty_one(tmp_path: Path) -> None:
    pool, other = Rehearsal(tmp_path / "pool"), Rehearsal(tmp_path / "other")
    with pool.running(), httpx.Client(base_url=pool.url, timeout=30) as http:
        http.headers["authorization"] = f"Bearer {pool.secret('bootstrap_key')}"
        found = run_a_search(http)
        networks = [http.get(f"/evaluations/{number}/model").raise_for_status().content for number in (1, 2)]
        for line in documented("Docker", "back up"):
            pool.docker(line)
    shutil.copytree(tmp_path / "pool/backup", tmp_path / "other/backup", dirs_exist_ok=True)
    with other.stopping(), httpx.Client(base_url=other.url, timeout=30) as http:
        for line in documented("Docker", "restore"):
            other.docker(line)
        http.headers["authorization"] = f"Bearer {other.secret('bootstrap_key')}"
        assert architectures(http, 1) == found
        assert [http.get(f"/evaluations/{number}/model").content for number in (1, 2)] == networks
        assert run_a_search(http) == found
