"""``quantrank measure``: what quantization does inside a saved network."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from qcore import get_task, load_network, measure_quantization
from qcore.data import evaluation_batches, load_data
from qcore.export import read_network_file
from service.cli import main

SHORT = {"schedule": {"epochs": 1, "warmup_epochs": 0}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    recipe = json.dumps({"float_part": SHORT, "retraining": SHORT})
    arguments = ["--task", "digits", "--bit-widths", "W2A2", "--recipe", recipe, "--save", str(folder)]
    assert main(["evaluate", "preact-L8-D3", *arguments]) == 0
    return folder


def file(saved: Path, bit_widths: str) -> str:
    return str(saved / f"preact-L8-D3_digits_{bit_widths}_seed0.safetensors")


def test_it_prints_what_the_library_measures_on_the_first_test_examples(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["measure", file(saved, "W2A2"), "--examples", "50", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    data = load_data(get_task("digits"), 0.0, Path("unused"), torch.device("cpu"))
    x, _ = next(iter(evaluation_batches(data, data.test)))
    path = Path(file(saved, "W2A2"))
    measured = measure_quantization(load_network(path), read_network_file(path).description.layers, x[:50])
    about = {"architecture": "preact-L8-D3", "task": "digits", "bit_widths": "W2A2", "examples": 50}
    assert printed == about | json.loads(json.dumps(asdict(measured)))


def test_people_get_a_row_for_every_quantized_layer(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", file(saved, "W2A2")]) == 0
    shown = capsys.readouterr().out
    for title in ("Weights", "Activations", "Activation noise"):
        assert title in shown
    assert shown.count("group2_block1_conv2") == 2  # its weights, and the noise that passes it
    assert shown.count("stem_quantizer") == 1


@pytest.mark.parametrize(
    ("arguments", "field"), [(["--examples", "0"], "examples"), (["--examples", "1001"], "examples")]
)
def test_unusable_input_is_refused(
    arguments: list[str], field: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", file(saved, "W2A2"), *arguments]) == 2
    assert f"{field}: " in capsys.readouterr().err


def test_the_float_network_has_nothing_to_measure(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", file(saved, "float")]) == 2
    assert "quantizes nothing" in capsys.readouterr().err
