"""``quantrank gc``, where a search has really trained."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from searcher.leaderboard import search_leaderboard
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.schema import upgrade
from searcher.searches import create_search
from searcher.tables import Search
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from service.cli import main
from service.settings import load_settings

ORPHAN = "networks/0f/" + "0f" * 32 + ".safetensors"
SHORT = {"schedule": {"epochs": 1, "warmup_epochs": 0}}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "ARTIFACTS", "DATASETS", "URL", "LEASE_SECONDS"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def search(widths: list[int]) -> None:
    """Trains networks of these widths, evaluations 1, 2, ..., in this home."""
    settings = load_settings()
    database = settings.open_database()
    upgrade(database)
    request = SearchRequest(
        task="digits",
        parameter_budget=20_000,
        blocks=["basic"],
        depths=[8],
        widths=widths,
        bit_widths=["W2A2"],
        recipe={"float_part": SHORT, "retraining": SHORT},
    )
    with database.write() as session:
        create_search(session, plan(request))
    artifacts = settings.open_artifacts()
    worker = Worker(database, WorkerSettings(data_root=settings.home, artifacts=artifacts, poll_seconds=0.01))
    while worker.run_one():
        pass
    database.dispose()


def put(home: Path, name: str, days: float = 3.0) -> Path:
    path = home / "artifacts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"1234567")
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * 86_400,) * 2)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["gc", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["gc", *arguments]) == 2
    return capsys.readouterr().err


def test_what_nothing_needs_is_freed_and_the_rest_can_be_exported(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search([3])
    orphan, checkpoint = put(home, ORPHAN), put(home, f"checkpoints/{'e' * 64}.checkpoint")
    for path in (home / "artifacts/networks").glob("*/*"):
        age(path, 3.0)
    told = printed(capsys, "--dry-run")
    assert told["dry_run"]
    assert (told["store"], told["bytes"], len(told["removed"])) == (str(home / "artifacts"), 14, 2)
    assert {"name": ORPHAN, "kind": "networks", "size": 7} in told["removed"]
    assert main(["gc", "--dry-run"]) == 0
    assert "would free 14 bytes" in capsys.readouterr().out
    assert orphan.is_file()
    assert printed(capsys, "--older-than", "4")["removed"] == []
    assert main(["gc"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "checkpoints: 1 of 7 bytes",
        "networks: 1 of 7 bytes",
        f"freed 14 bytes in {home / 'artifacts'}",
    ]
    assert not orphan.exists()
    assert not checkpoint.exists()
    assert main(["export", "1", "--format", "packed"]) == 0
    assert main(["export", "1", "--format", "packed", "--bit-widths", "float"]) == 0


def test_networks_outside_the_top_go_only_when_asked_and_exporting_them_says_how_to_get_them(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search([3, 8])
    networks = list((home / "artifacts/networks").glob("*/*"))
    for path in networks:
        age(path, 3.0)
    assert printed(capsys)["removed"] == []
    with load_settings().open_database().read() as session:
        entries = search_leaderboard(session, session.get_one(Search, 1))
    best, worst = (entry.evaluations[0] for entry in entries)
    told = printed(capsys, "--keep-top", "1")
    assert told["bytes"] == sum(each["size"] for each in told["removed"])
    assert len(told["removed"]) == 2
    assert main(["export", str(best), "--format", "packed"]) == 0
    assert main(["export", str(worst), "--format", "packed"]) == 2
    error = capsys.readouterr().err
    assert "has no network" in error
    assert "quantrank evaluate basic-L8-D" in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--older-than", "-1"], "older_than: -1.0 is no number of days"),
        (["--older-than", "nan"], "older_than"),
        (["--keep-top", "0"], "keep_top: 0 keeps no network at all"),
        ([], "has no database"),
    ],
)
def test_unusable_input_is_named_with_its_remedy(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert told in refused(capsys, *arguments)


def test_the_store_of_another_home_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(load_settings().open_database())
    orphan = put(home, ORPHAN)
    assert "knows none" in refused(capsys)
    assert orphan.is_file()
    monkeypatch.setenv("QUANTRANK_ARTIFACTS", "nope://somewhere")
    for command in (["gc"], ["worker"], ["serve"]):
        assert main(command) == 2
        assert "QUANTRANK_ARTIFACTS: 'nope://somewhere' cannot be used" in capsys.readouterr().err
