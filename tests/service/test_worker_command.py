"""``quantrank worker`` with several processes, and ``quantrank workers``, as real processes with real training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from qcore import get_task
from qcore.devices import usable_cores
from searcher import workers
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.worker_settings import WorkerSettings
from service.app import create_app
from service.cli import main
from service.settings import Settings

QUANTRANK = [sys.executable, "-m", "service"]
LONG = {"float_part": {"schedule": {"epochs": 40}}, "retraining": {"schedule": {"epochs": 2}}}
BODY = {
    "task": "digits",
    "parameter_budget": 4000,
    "blocks": ["basic", "preact"],
    "depths": [8],
    "bit_widths": ["W2A2"],
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    # Leases that outlast the test: whatever is taken over was freed by the parent.
    home = str(tmp_path / "home")
    return {**inherited, "QUANTRANK_HOME": home, "QUANTRANK_PORT": "9", "QUANTRANK_LEASE_SECONDS": "3600"}


@pytest.fixture
def client(environment: dict[str, str]) -> Iterator[TestClient]:
    settings = Settings(home=Path(environment["QUANTRANK_HOME"]))
    database = settings.open_database()
    subprocess.run([*QUANTRANK, "db", "upgrade"], env=environment, check=True, capture_output=True)
    with TestClient(create_app(settings, database), base_url="http://127.0.0.1") as client:
        yield client
    database.dispose()


@contextmanager
def working(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    parent = subprocess.Popen([*QUANTRANK, "worker", *arguments], env=environment)
    try:
        yield parent
    finally:
        parent.terminate()
        parent.wait(60)


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("the condition never came true")


def listed(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/workers").json()["workers"]
    return found


def both_work(client: TestClient) -> bool:
    return [each["status"] for each in listed(client)] == ["working"] * 2 and progressed(client)


def progressed(client: TestClient) -> bool:
    """Whether some epochs of both evaluations are trained."""
    evaluations = [client.get(f"/evaluations/{number}").json() for number in (1, 2)]
    return all(each["stages"][0]["epochs_done"] > 0 for each in evaluations)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_several_workers_of_one_command_end_after_their_epochs_at_sigterm(
    environment: dict[str, str], client: TestClient
) -> None:
    client.post("/search", json=BODY)
    with working(environment, "--concurrency", "2") as parent:
        wait_until(lambda: both_work(client))
        found = listed(client)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(60) == 0
    assert len({each["pid"] for each in found} | {parent.pid}) == 3
    assert {each["evaluation"]["architecture"] for each in found} == {"basic-L8-D3", "preact-L8-D3"}
    assert [each["threads"] for each in found] == [1, 1]
    assert not any(is_alive(each["pid"]) for each in found)
    assert listed(client) == []
    for number in (1, 2):
        evaluation = client.get(f"/evaluations/{number}").json()
        assert (evaluation["status"], evaluation["attempt"]) == ("queued", 0)
        assert len(evaluation["stages"][0]["curve"]) == evaluation["stages"][0]["epochs_done"] > 0


@pytest.mark.slow
def test_what_a_killed_worker_had_goes_on_at_once_and_another_is_started(
    environment: dict[str, str], client: TestClient
) -> None:
    search = client.post("/search", json=BODY).json()
    with working(environment, "--concurrency", "2"):
        wait_until(lambda: both_work(client))
        before = {each["pid"] for each in listed(client)}
        os.kill(min(before), signal.SIGKILL)
        # Its lease would not end in this test.
        wait_until(lambda: client.get(search["links"]["self"]).json()["status"] == "finished")
        wait_until(lambda: len(listed(client)) == 2)
        after = {each["pid"] for each in listed(client)}
    assert len(after - before) == 1
    attempts = [client.get(f"/evaluations/{number}").json()["attempt"] for number in (1, 2)]
    assert sorted(attempts) == [1, 2]


@pytest.mark.slow
def test_a_killed_parent_takes_its_workers_with_it(environment: dict[str, str], client: TestClient) -> None:
    client.post("/search", json=BODY)
    with working(environment, "--concurrency", "2") as parent:
        wait_until(lambda: both_work(client))
        children = [each["pid"] for each in listed(client)]
        parent.kill()
        parent.wait(60)
        wait_until(lambda: not any(is_alive(child) for child in children))
    statuses = [client.get(f"/evaluations/{number}").json()["status"] for number in (1, 2)]
    assert statuses == ["queued", "queued"]


@pytest.fixture
def home(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "ARTIFACTS", "DATASETS", "URL", "DEVICE"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    monkeypatch.setenv("QUANTRANK_HOME", environment["QUANTRANK_HOME"])
    monkeypatch.setenv("QUANTRANK_PORT", "9")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--concurrency", "0"], "concurrency: 0 is out of range; use 1 to 256"),
        (["--concurrency", "1000"], "concurrency: 1000 is out of range"),
        (["--device", "cpu", "--all-gpus"], "device: 'cpu' is one, and --all-gpus takes every GPU"),
        pytest.param(
            ["--all-gpus"],
            "device: 'cuda' is not here: torch finds no GPU on this machine; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here"),
        ),
        pytest.param(
            ["--concurrency", "256", "--threads", "2"],
            "threads: 2 for each of 256 processes are more than the",
            marks=pytest.mark.skipif(usable_cores() < 2, reason="there is one core here"),
        ),
    ],
)
def test_impossible_workers_are_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", *arguments]) == 2
    assert told in capsys.readouterr().err


def _register_without(task: str, client: TestClient) -> None:
    """A worker that lacks a task's data, for as long as the test."""
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    settings = WorkerSettings(data_root=Path("unused"), artifacts=Artifacts(Path("unused")), lease_seconds=3600.0)
    with database.write() as session:
        workers.register(session, "w", settings)
        workers.note_missing(session, "w", task, get_task(task).version, f"{task} lacks [a file]; unpack it there")


@pytest.mark.usefixtures("home")
def test_the_command_prints_the_workers(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    _register_without("cifar10", client)

    assert main(["workers", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["pid"] == os.getpid()
    (missing,) = found["missing"]
    assert (missing["task"], missing["problem"]) == ("cifar10", "cifar10 lacks [a file]; unpack it there")
    assert {"memory_bytes", "cores", "threads", "versions", "heartbeat_at"} <= found.keys()

    assert main(["workers"]) == 0
    printed = capsys.readouterr().out
    assert "idle" in printed
    assert "trains nothing of a task: cifar10 lacks [a file]; unpack it there" in printed


@pytest.mark.usefixtures("home")
def test_without_a_worker_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workers"]) == 0
    assert capsys.readouterr().out == "No worker runs.\n"


def test_a_search_without_its_data_says_so_in_rest_on_the_page_and_while_it_is_watched(
    environment: dict[str, str], client: TestClient
) -> None:
    _register_without("digits", client)
    told = "no worker has its data; on "
    search = client.post("/search", json=BODY).json()
    assert told in search["progress"]["waits_for"]
    page = client.get(search["links"]["page"]).text
    assert f"Waiting: {told}" in page
    assert "digits lacks [a file]; unpack it there" in page

    server = subprocess.Popen(
        [*QUANTRANK, "serve", "--port", "0", "--workers", "0"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = server.stdout.readline().split("ready at ")[1].strip()
    command = [*QUANTRANK, "search", "--task", "digits", "--parameter-budget", "4000", "--watch", "--url", url]
    watching = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert watching.stderr is not None
        waiting = next(line for line in watching.stderr if line.startswith("Waiting: "))
        assert "digits lacks [a file]; unpack it there" in waiting
        client.post("/searches/2/cancel")
        assert watching.wait(60) == 1
    finally:
        watching.kill()
        server.terminate()
        server.wait(60)
