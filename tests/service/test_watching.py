"""Watching a search to its end, through servers that go away, and coming back to it."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import httpx
import pytest
from live import serving
from playing import play_worker

from searcher.database import Database
from service import watching
from service.app import create_app
from service.cli import main
from service.client import Client
from service.settings import Settings
from tests.service.processes import started, wait_until

BODY = {"task": "digits", "parameter_budget": 20_000, "bit_widths": ["W2A2"], "architectures": ["basic-L8-D3"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_search_is_watched_to_its_end_though_its_server_is_long_away(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database: Database = request.getfixturevalue({"sqlite": "sqlite_database", "postgresql": "postgres_database"}[kind])
    monkeypatch.setattr(watching, "_SILENCE_SECONDS", 0.3)
    settings, seen = Settings(home=tmp_path, database_url=None), [""]

    def told(text: str) -> bool:
        seen[0] += capsys.readouterr().err
        return text in seen[0]

    ended: list[int] = []
    with serving(create_app(settings, database)) as url, Client(url) as client:
        search = client.post_search(BODY)
        command = ["watch", str(search.id), "--url", url, "--json"]
        thread = threading.Thread(target=lambda: ended.append(main(command)), daemon=True)
        thread.start()
        wait_until(lambda: told("1 candidates, "))
    wait_until(lambda: told(f"To come back: quantrank watch {search.id} --url {url}"))
    assert thread.is_alive()
    play_worker(database, search.id)
    with serving(create_app(settings, database), port=int(url.rpartition(":")[2])):
        thread.join(60)
    assert not thread.is_alive()

    assert ended == [0]
    seen[0] += (shown := capsys.readouterr()).err
    assert seen[0].count("No answer for ") == 1
    assert "The search goes on wherever its workers run" in seen[0]
    assert seen[0].count(f"{url} answers again.") == 1
    assert json.loads(shown.out)["search"]["status"] == "finished"


def test_after_a_minute_without_a_server_it_is_said_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("service.client.waiting.time.monotonic", lambda: clock[0])
    said: list[float] = []
    told: list[str] = []
    monkeypatch.setattr(watching, "_tell", lambda _bar, text: (said.append(clock[0]), told.append(text)))

    def pause(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] > 300:
            raise KeyboardInterrupt

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text="proxy")

    client = Client("http://server", transport=httpx.MockTransport(answer), pause=pause)
    away = watching._Away(client.url, "quantrank watch 1", None, None)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        list(client.events(1, while_away=away))
    assert len(said) == 1
    assert 60 <= said[0] < 66
    assert "http://server/searches/1/events answered 502" in told[0]


@pytest.mark.slow
def test_when_a_commands_own_server_dies_it_says_so_and_how_to_come_back(tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    environment = {**inherited, "QUANTRANK_HOME": str(tmp_path / "home"), "QUANTRANK_PORT": "9"}
    arguments = ["search", "--task", "digits", "--parameter-budget", "9000", "--blocks", "basic", "--depths", "8"]
    recipe = '{"float_part": {"schedule": {"epochs": 1000}}}'
    (tmp_path / "folder").mkdir()
    with started([*arguments, "--recipe", recipe], environment, tmp_path / "folder") as command:
        wait_until(lambda: "candidates, http" in (tmp_path / "folder" / "told").read_text())
        (server,) = command.processes_of("-m service serve")
        os.kill(server, signal.SIGKILL)
        assert command.process.wait(60) == 1
        told = (tmp_path / "folder" / "told").read_text()
    assert "the server of this command has ended (killed by signal 9" in told
    assert "quantrank watch 1" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_when_a_commands_own_driver_does_not_start_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "ray.py").write_text("raise ImportError('built for another Python')\n")
    (tmp_path / "folder").mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    environment = {**inherited, "QUANTRANK_HOME": str(tmp_path / "home"), "QUANTRANK_PORT": "9"}
    environment["PYTHONPATH"] = str(tmp_path / "packages")
    arguments = ["search", "--task", "digits", "--parameter-budget", "9000", "--depths", "8", "--engine", "ray"]
    ignored = [signal.SIGINT]  # as where a script starts it in the background
    with started(arguments, environment, tmp_path / "folder", ignored=ignored) as command:
        assert command.process.wait(60) == 130
        told = (tmp_path / "folder" / "told").read_text()
    assert "the Ray driver of this command has ended (" in told
    assert "needs Ray, which cannot be imported (built for another Python)" in told
    assert "quantrank watch 1" in told
    assert "Traceback" not in told


def test_a_search_that_is_nowhere_cannot_be_watched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))
    monkeypatch.setenv("QUANTRANK_PORT", "9")
    assert main(["watch", "3"]) == 2
    assert "search: 3 does not exist" in capsys.readouterr().err
