"""``quantrank packing``: real processes train side by side."""

from __future__ import annotations

import json

import pytest

from qcore.devices import usable_cores
from qcore.packing import Packing, best_packing
from service.cli import main


@pytest.mark.slow
def test_it_measures_every_way_to_share_the_cores_and_says_how_to_serve(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["packing", "basic-L8-D3", "--task", "digits", "--seconds", "0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cores = usable_cores()
    assert {(each["workers"], each["threads"]) for each in found["packings"]} >= {(1, cores), (cores, 1)}
    assert all(each["steps_per_second"] > 0 and each["peak_bytes"] > 1_000_000 for each in found["packings"])
    best = found["best"]
    assert best in found["packings"]
    assert f"--workers {best['workers']} --threads {best['threads']}" in found["command"]
    assert found["ray_command"] == f"quantrank ray --address auto --threads {best['threads']} --device cpu"


@pytest.mark.slow
def test_it_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["packing", "plain-L4-D8", "--task", "rings", "--seconds", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "steps a second, together" in shown
    assert "Most is trained by: quantrank serve --workers" in shown


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--seconds", "0"], "seconds"),
        (["--seconds", "601"], "seconds"),
        (["--device", "tpu"], "device"),
        (["--task", "nothing"], "task"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["packing", "basic-L8-D3", "--task", "digits", *arguments]) == 2
    assert f"{field}:" in capsys.readouterr().err


def test_workers_share_a_device_as_far_as_its_memory_goes() -> None:
    found = [Packing(1, 1, 10.0, 300), Packing(2, 1, 19.0, 300), Packing(4, 1, 30.0, 300), Packing(8, 1, 30.5, 300)]
    assert best_packing(found).workers == 4  # 8 bring less than 3 % more
    assert best_packing(found, device_bytes=900).workers == 2
    assert best_packing(found, device_bytes=100).workers == 1
    assert best_packing(found).fraction == 0.25
