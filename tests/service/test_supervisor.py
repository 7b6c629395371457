"""What the parent of several workers gives each."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from qcore import devices
from qcore.devices import default_loader_processes
from searcher.database import Database
from service import supervisor
from service.cli import main
from service.commands import worker
from service.supervisor import Supervisor


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
