"""``quantrank ray``: what it refuses before it connects, and a search that brings Ray along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.cli import main


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray keeps a token
    monkeypatch.setenv("QUANTRANK_PORT", "1")  # where no server is


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--device", "tpu"], "device"),
        (["--threads", "0"], "threads"),
        (["--cpus-per-trial", "0"], "cpus-per-trial"),
        (["--cpus-per-trial", "nan"], "cpus-per-trial"),
        (["--device", "cuda", "--gpus-per-trial", "1.5"], "gpus-per-trial"),
        (["--device", "cuda", "--gpus-per-trial", "0"], "gpus-per-trial"),
        (["--gpus-per-trial", "0.5"], "gpus-per-trial"),
        (["--memory-per-trial", "0"], "memory-per-trial"),
        (["--address", "ray://head:10001"], "address"),
        (["--address", "nonsense"], "address"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], field: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "upgrade"]) == 0
    assert main(["ray", *arguments]) == 2
    assert f"quantrank: {field}: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_ray_search_without_a_server_brings_ray_along(capsys: pytest.CaptureFixture[str]) -> None:
    short = {"schedule": {"epochs": 1, "warmup_epochs": 0}}
    recipe = json.dumps({"float_part": short, "retraining": short})
    search = ["search", "--engine", "ray", "--task", "digits", "--parameter-budget", "4000", "--bit-widths", "W2A2"]
    assert main([*search, "--architectures", "basic-L8-D3", "--recipe", recipe, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["search"]["status"], found["search"]["engine"]) == ("finished", "ray")
    assert [entry["architecture"] for entry in found["leaderboard"]["entries"]] == ["basic-L8-D3"]
