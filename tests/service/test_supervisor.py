"""What the parent of several workers gives each."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from qcore import devices
from qcore.devices import default_loader_processes
from qcore.memory import room_of_each
from searcher import leases
from searcher.database import Database
from searcher.next_proposal import propose_next
from searcher.tables import Evaluation
from service import settings, supervisor
from service.app import create_app
from service.cli import main
from service.commands import worker
from service.settings import Settings
from service.supervisor import Supervisor
from tests.service.processes import wait_until

BODY = {"task": "digits", "parameter_budget": 4000, "blocks": ["basic"], "depths": [8], "bit_widths": ["W2A2"]}


@pytest.mark.parametrize(("workers", "expected"), [(1, 8), (2, 6), (5, 2), (20, 1)])
def test_workers_of_one_command_divide_the_processes_that_decode_images(
    workers: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    all_started = threading.Event()

    class Process:
        pid = 1

        def __init__(self, command: list[str]) -> None:
            started.append(command)
            if len(started) == workers:
                all_started.set()

        def wait(self, _seconds: float | None = None) -> int:
            return 0

        def terminate(self) -> None: ...

    monkeypatch.setattr(supervisor, "usable_cores", lambda: 12)
    monkeypatch.setattr(devices, "usable_cores", lambda: 12)
    monkeypatch.setattr(supervisor.subprocess, "Popen", Process)
    parent = Supervisor(Database(f"sqlite:///{tmp_path / 'any.db'}"), [["--device", "cpu", "--threads", "1"]] * workers)
    parent.start()
    assert all_started.wait(60)
    parent.stop()

    found: list[int] = []
    monkeypatch.setattr(devices, "_share_of_cores", None)
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))
    monkeypatch.setattr(worker, "stop_when_told", lambda *_: None)
    monkeypatch.setattr(worker.Worker, "run", lambda _self: found.append(default_loader_processes("cuda")))
    assert main(["db", "upgrade"]) == 0
    for command in started:
        arguments: Any = command[command.index("service") + 1 :]
        del arguments[1:3]  # with whom it is to end
        assert main(arguments) == 0
    assert found == [expected] * workers


def test_a_worker_that_cannot_be_started_is_tried_again_until_it_can(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_SECONDS", 0.02)
    parent = Supervisor(sqlite_database, [[]])
    program, started = tmp_path / "interpreter", tmp_path / "started"
    parent._command = [str(program)]
    parent.start()
    wait_until(lambda: caplog.text.count("no worker could be started ([Errno 2] No such file or directory") >= 2)
    program.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep 600\n")  # not to be run yet: another error
    wait_until(lambda: "Permission denied" in caplog.text)
    program.chmod(0o700)
    wait_until(started.exists)
    parent.stop()
    pauses = re.findall(r"another starts in", caplog.text)
    assert len(pauses) >= 3


def test_what_a_killed_worker_had_is_no_attempt_if_it_was_asked_to_stop(database: Database, tmp_path: Path) -> None:
    """As one is that does not come to its end in time."""
    parent = Supervisor(database, [[]])
    program = tmp_path / "stubborn"
    program.write_text(
        "#!/bin/sh\ntrap '' TERM\necho $2 > " + str(tmp_path / "id") + "\nwhile :; do sleep 0.05; done\n"
    )
    program.chmod(0o700)
    parent._command = [str(program)]
    with TestClient(create_app(Settings(home=tmp_path, database_url=None), database)) as client:
        client.base_url = "http://127.0.0.1"
        assert client.post("/search", json=BODY).status_code == 201
    parent.start()
    wait_until(lambda: (tmp_path / "id").exists() and (tmp_path / "id").read_text().endswith("\n"))
    assert propose_next(database)
    with database.write() as session:
        assert leases.claim(session, (tmp_path / "id").read_text().strip(), 1000.0)
    parent.stop(0.2)
    with database.read() as session:
        (evaluation,) = session.scalars(select(Evaluation))
    assert (evaluation.status, evaluation.attempt, evaluation.fruitless_attempts) == ("queued", 0, 0)


@pytest.mark.parametrize(
    ("kills", "told"),
    [
        ([4, 5], "was killed by the kernel for want of memory (this machine, or container, has 1.0 GB): give it more"),
        (
            [4, 4],
            "was killed (signal 9): if nobody did, the kernel has for want of memory (this machine, or container,",
        ),
        ([None, None], "was killed (signal 9): if nobody did"),
    ],
)
def test_the_log_says_of_a_killed_worker_whether_it_was_for_memory(
    kills: list[int | None],
    told: str,
    sqlite_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted = iter(kills)
    monkeypatch.setattr(supervisor, "memory_kills", lambda: next(counted, kills[-1]))
    monkeypatch.setattr(supervisor, "device_bytes", lambda _device: 10**9)
    program = tmp_path / "killed"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o700)
    parent = Supervisor(sqlite_database, [[]])
    parent._command = [str(program)]

    parent.start()
    wait_until(lambda: "another starts" in caplog.text)
    parent.stop()

    assert told in caplog.text


def test_workers_of_one_command_divide_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "device_bytes", lambda _device: 8 * 10**9)
    asked = settings.Settings(home=tmp_path, database_url=None)

    rooms = [asked.for_workers(1, processes).room_bytes for processes in (1, 2, 8)]

    assert rooms == [room_of_each(8 * 10**9, processes) for processes in (1, 2, 8)]
    assert asked.model_copy(update={"worker_memory_bytes": 5}).for_workers(1, 8).room_bytes == 5
    assert asked.model_copy(update={"device": "cuda"}).for_workers(1).room_bytes is None
