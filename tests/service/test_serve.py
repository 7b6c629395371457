"""``quantrank serve`` and ``quantrank search`` as real processes, with real training."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.commands.serve import listen

QUANTRANK = [sys.executable, "-m", "service"]
RECIPE = {"float_part": {"schedule": {"epochs": 3}}, "retraining": {"schedule": {"epochs": 2}}}
SMALL = ["--task", "digits", "--parameter-budget", "4000", "--blocks", "basic", "--depths", "8"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    home = str(tmp_path / "home")
    # A port nobody listens on: these tests must not meet a server that a developer has running.
    return {**inherited, "QUANTRANK_HOME": home, "QUANTRANK_PORT": "9", "QUANTRANK_LEASE_SECONDS": "2"}


@contextmanager
def serving(environment: dict[str, str], *arguments: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    server = subprocess.Popen(
        [*QUANTRANK, "serve", "--port", "0", *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split("ready at ")[1].strip()
        with httpx.Client(base_url=url, timeout=30) as http:
            yield server, http
    finally:
        server.terminate()
        server.wait(30)


def run(environment: dict[str, str], *arguments: str) -> Any:
    ended = subprocess.run(
        [*QUANTRANK, *arguments, "--json"], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def events(http: httpx.Client, search_id: int) -> list[str]:
    """Kinds of a search's events, once it has ended."""
    with http.stream("GET", f"/searches/{search_id}/events", timeout=120) as stream:
        return [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]


def test_a_search_runs_through_a_server_and_again_from_stored_results(environment: dict[str, str]) -> None:
    with serving(environment) as (_, http):
        url = str(http.base_url)
        first = run(environment, "search", *SMALL, "--recipe", json.dumps(RECIPE), "--watch", "--url", url)
        again = run(environment, "search", *SMALL, "--recipe", json.dumps(RECIPE), "--watch", "--url", url)
        entry = first["leaderboard"]["entries"][0]
        evaluation = http.get(f"/evaluations/{entry['evaluations'][0]}").json()
        page = http.get(first["search"]["links"]["page"]).text
        of_bytes = [*SMALL[:2], *SMALL[4:], "--model-bytes-budget", "2048", "--recipe", json.dumps(RECIPE)]
        shown = subprocess.run(
            [*QUANTRANK, "search", *of_bytes, "--watch", "--url", url],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    assert first["search"]["status"] == "finished"
    assert entry["rank"] == 1
    assert entry["parameters"] <= 4000
    assert list(entry["accuracy"]) == ["float", "W2A2", "W2AF", "WFA2"]
    assert again["leaderboard"]["entries"] == first["leaderboard"]["entries"]
    assert again["search"]["id"] != first["search"]["id"]
    assert evaluation["searches"] == [first["search"]["id"], again["search"]["id"]]
    assert [stage["status"] for stage in evaluation["stages"]] == ["done"] * 4
    assert [len(stage["curve"]) for stage in evaluation["stages"]] == [3, 2, 2, 2]
    assert {"torch", "threads", "device", "numerics"} <= evaluation["stages"][0]["provenance"].keys()
    assert entry["architecture"] in page
    assert shown.startswith("Search 3: digits, at most 2 KiB at W2A2, recipe short* ")
    assert "Recipe short* (float_part.schedule.epochs = 3, " in page


@pytest.mark.slow
def test_a_search_by_rungs_trains_the_best_in_full_and_goes_on_when_it_is_extended(environment: dict[str, str]) -> None:
    space = [
        *SMALL[:2],
        "--parameter-budget",
        "12000",
        *SMALL[4:],
        "--widths",
        "3,4,5",
        "--bit-widths",
        "W2A2",
        "--recipe",
        json.dumps(RECIPE),
    ]
    strategy = ["--rungs", "0.3", "--promoted-share", "0.5", "--sampler", "grid", "--max-evaluations", "2"]
    with serving(environment) as (_, http):
        url = ["--url", str(http.base_url)]
        limited = run(environment, "search", *space, *strategy, "--watch", *url)["search"]
        extended = run(environment, "extend", str(limited["id"]), "--max-evaluations", "5", *url)
        kinds = events(http, limited["id"])
        search = http.get(f"/searches/{limited['id']}").json()
        candidates = http.get(search["links"]["candidates"]).json()["candidates"]
        rung, full = (
            http.get(search["links"]["leaderboard"], params=params).json()["entries"] for params in ({"rung": 0}, {})
        )

    assert (limited["status"], limited["ended_by"], extended["status"]) == ("finished", "max_evaluations", "running")
    assert (search["status"], search["ended_by"]) == ("finished", "complete")
    assert kinds.count("search_finished") == 2
    assert [[each["rung"] for each in candidate["evaluations"]][:1] for candidate in candidates] == [[0]] * 3
    assert {entry["architecture"] for entry in full} == {entry["architecture"] for entry in rung[:2]}
    assert len(rung) == 3


@pytest.mark.slow
def test_a_search_without_a_server_starts_one_and_leaves_none(environment: dict[str, str]) -> None:
    found = run(environment, "search", *SMALL, "--recipe", json.dumps(RECIPE))
    board = run(environment, "leaderboard", "--task", "digits")

    assert found["search"]["status"] == "finished"
    assert board["entries"] == []  # the task's leaderboard is that of its own recipes
    assert not (Path(environment["QUANTRANK_HOME"]) / "server.json").exists()


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_search_ends(environment: dict[str, str]) -> None:
    recipe = {"float_part": {"schedule": {"epochs": 20}}, "retraining": {"schedule": {"epochs": 2}}}
    with serving(environment) as (server, http):
        body = {"task": "digits", "parameter_budget": 4000, "blocks": ["basic"], "depths": [8], "recipe": recipe}
        search = http.post("/search", json=body).json()
        with http.stream("GET", f"/searches/{search['id']}/events", timeout=60) as stream:
            # The first progress that counts epochs: the worker is in the middle of the evaluation.
            lines = (line.removeprefix("data: ") for line in stream.iter_lines() if '"epochs_done"' in line)
            next(line for line in lines if json.loads(line)["epochs_done"] > 0)
        os.kill(_child(server.pid), signal.SIGKILL)
        kinds = events(http, search["id"])
        evaluation = http.get("/evaluations/1").json()

    assert kinds.count("evaluation_started") == 2
    assert kinds[-1] == "search_finished"
    assert evaluation["attempt"] == 2
    assert [point["epoch"] for point in evaluation["stages"][0]["curve"]] == list(range(1, 21))


def test_serve_stops_with_its_workers_at_sigterm(environment: dict[str, str]) -> None:
    with serving(environment) as (server, _):
        worker = _child(server.pid)
        server.terminate()

        assert server.wait(30) == 0
        assert not Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize("command", [["worker"], ["serve", "--port", "0", "--workers", "0"]])
def test_a_process_whose_parent_is_gone_before_it_starts_ends_too(
    environment: dict[str, str], command: list[str]
) -> None:
    run(environment, "db", "upgrade")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    ended = subprocess.run(
        [*QUANTRANK, *command, "--exit-with", str(gone.pid)], env=environment, timeout=60, check=False
    )

    assert ended.returncode == 0


@pytest.mark.slow
def test_beyond_this_host_commands_are_let_in_with_their_key(environment: dict[str, str], tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{secrets.token_hex(32)}\n")
    served = environment | {"QUANTRANK_BOOTSTRAP_KEY_FILE": str(key_file)}
    with serving(served, "--host", "0.0.0.0", "--workers", "0") as (_, http):
        url = f"http://127.0.0.1:{http.base_url.port}"
        refused = subprocess.run(
            [*QUANTRANK, "workers", "--url", url], env=environment, capture_output=True, text=True, check=False
        )
        by_file = run(environment | {"QUANTRANK_API_KEY_FILE": str(key_file)}, "workers", "--url", url)
        key = {"QUANTRANK_API_KEY": key_file.read_text(), "QUANTRANK_API_KEY_FILE": "/nowhere"}
        by_value = run(environment | key, "workers", "--url", url)

    assert refused.returncode == 1
    assert "QUANTRANK_API_KEY" in refused.stderr
    assert by_file == by_value == []


def test_a_server_without_workers_takes_searches_for_a_device_that_only_others_have(
    environment: dict[str, str],
) -> None:
    with serving(environment | {"QUANTRANK_DEVICE": "cuda"}, "--workers", "0") as (_, http):
        posted = http.post("/search", json={"task": "digits", "parameter_budget": 4000})

    assert posted.status_code == 201
    assert posted.json()["recipe"]["settings"]["float_part"]["path"] == "compiled"


def test_a_taken_port_is_named(environment: dict[str, str]) -> None:
    with serving(environment, "--workers", "0") as (_, http):
        port = str(http.base_url.port)
        second = subprocess.run(
            [*QUANTRANK, "serve", "--port", port], env=environment, capture_output=True, text=True, check=False
        )

    assert second.returncode == 2
    assert port in second.stderr
    assert "--port" in second.stderr


def _child(parent: int) -> int:
    """The one process that ``parent`` started; there soon after it says it is ready."""
    pause = threading.Event()
    for _ in range(3000):
        listings = Path(f"/proc/{parent}/task").glob("*/children")
        if found := [pid for listing in listings for pid in listing.read_text().split()]:
            return int(found[0])
        pause.wait(0.01)
    raise AssertionError(f"{parent} started nothing")


def test_no_part_of_an_answer_waits_for_the_acknowledgement_of_the_part_before() -> None:
    with listen("127.0.0.1", 0) as server:
        server.listen()
        with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
