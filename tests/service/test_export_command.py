"""``quantrank export`` and ``evaluate --save``: from a search, or a file, to a file to ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from qcore import load_network
from qcore.export import read_packed
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.schema import upgrade
from searcher.searches import create_search
from searcher.worker import Worker
from searcher.worker_settings import WorkerSettings
from service.cli import main
from service.files import usable_folder
from service.settings import load_settings

RECIPE = {
    "float_part": {"schedule": {"epochs": 2, "warmup_epochs": 0}},
    "retraining": {"schedule": {"epochs": 1, "warmup_epochs": 0}},
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "ARTIFACTS", "DATASETS", "URL", "LEASE_SECONDS"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``evaluate --save`` wrote."""
    folder = tmp_path_factory.mktemp("saved") / "networks"
    arguments = ["--task", "digits", "--bit-widths", "W2A2", "--recipe", json.dumps(RECIPE), "--save", str(folder)]
    assert main(["evaluate", "basic-L8-D3", *arguments]) == 0
    return folder


def network(saved: Path) -> str:
    return str(saved / "basic-L8-D3_digits_W2A2_seed0.safetensors")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def search(home: Path) -> None:
    """One evaluation, number 1, float and W2A2, in this home."""
    settings = load_settings()
    database = settings.open_database()
    upgrade(database)
    request = SearchRequest(
        task="digits",
        parameter_budget=4000,
        blocks=["basic"],
        depths=[8],
        widths=[3],
        bit_widths=["W2A2"],
        recipe=RECIPE,
    )
    with database.write() as session:
        create_search(session, plan(request))
    worker = Worker(database, WorkerSettings(data_root=home, artifacts=settings.open_artifacts(), poll_seconds=0.01))
    while worker.run_one():
        pass
    database.dispose()


def test_evaluate_saves_every_stage_as_a_network_that_loads(saved: Path) -> None:
    names = {path.name for path in saved.iterdir()}
    assert names == {f"basic-L8-D3_digits_{bits}_seed0.safetensors" for bits in ("float", "W2A2")}
    assert str(load_network(network(saved)).bit_widths) == "W2A2"


def test_looking_whether_a_folder_can_be_written_leaves_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / ".quantrank").write_text("a user's file")
    usable_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".quantrank"]
    assert (tmp_path / ".quantrank").read_text() == "a user's file"


def test_a_saved_network_is_exported_in_every_format(
    saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = printed(capsys, "export", network(saved), "--format", "onnx")
    assert told["output"] == "basic-L8-D3_digits_W2A2.onnx"
    assert told["bytes"] == (tmp_path / told["output"]).stat().st_size
    onnxruntime.InferenceSession(tmp_path / told["output"], providers=["CPUExecutionProvider"])
    assert main(["export", network(saved), "--format", "packed", "--output", "shipped.bin"]) == 0
    assert "shipped.bin: basic-L8-D3 on digits at W2A2" in capsys.readouterr().out
    assert read_packed(tmp_path / "shipped.bin").network.description.architecture == "basic-L8-D3"
    assert main(["export", network(saved), "--format", "safetensors", "--output", "again.safetensors"]) == 0
    assert (tmp_path / "again.safetensors").read_bytes() == Path(network(saved)).read_bytes()


def test_codes_become_outputs_when_asked_for(saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed(capsys, "export", network(saved), "--format", "onnx", "--with-codes", "--output", "codes.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "codes.onnx", providers=["CPUExecutionProvider"])
    assert "stem_relu_codes" in {output.name for output in session.get_outputs()}


def test_an_evaluation_of_a_search_is_exported_by_its_number(
    home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    search(home)
    told = printed(capsys, "export", "1", "--format", "packed")
    assert told["bit_widths"] == "W2A2"
    assert read_packed(tmp_path / told["output"]).network.description.stage == told["stage"]
    assert printed(capsys, "export", "1", "--format", "onnx", "--bit-widths", "float")["bit_widths"] == "float"
    by_key = printed(capsys, "export", "1", "--format", "packed", "--stage", told["stage"][:8])
    assert by_key["stage"] == told["stage"]
    for absent in ("2", "9" * 19, "9" * 30):
        assert "quantrank.db" in refused(capsys, "export", absent, "--format", "onnx")
    assert "W2A2, float" in refused(capsys, "export", "1", "--format", "onnx", "--bit-widths", "W4A4")
    for path in (home / "artifacts/networks").glob("*/*"):
        path.unlink()
    assert "has no network" in refused(capsys, "export", "1", "--format", "onnx")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "7", "--format", "onnx"], "nothing was searched"),
        (["export", "7" * 30, "--format", "onnx"], "nothing was searched"),
        (["export", "seven", "--format", "onnx"], "evaluation's number"),
        (["export", "absent.safetensors", "--format", "onnx"], "absent.safetensors"),
        (["export", "NETWORK", "--format", "onnx", "--bit-widths", "W4A4"], "holds W2A2"),
        (["export", "NETWORK", "--format", "onnx", "--bit-widths", "W2"], "bit_widths"),
        (["export", "NETWORK", "--format", "onnx", "--stage", "beef"], "leave --stage out"),
        (["export", "NETWORK", "--format", "packed", "--with-codes"], "--format onnx"),
        (["export", "NETWORK", "--format", "onnx", "--output", "no/such/folder.onnx"], "cannot be written"),
        (["export", "NETWORK", "--format", "onnx", "--output", "."], "cannot be written"),
        (["evaluate", "basic-L8-D3", "--task", "digits", "--save", "NETWORK"], "save"),
    ],
)
def test_unusable_input_is_named_with_its_remedy(
    saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], told: str
) -> None:
    assert told in refused(capsys, *[network(saved) if each == "NETWORK" else each for each in arguments])
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.onnx").write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in refused(capsys, "export", network(saved), "--format", "onnx", "--output", "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    assert (tmp_path / "out.onnx").read_text() == "before"


def test_the_trained_network_is_not_overwritten(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(network(saved)).read_bytes()
    told = refused(capsys, "export", network(saved), "--format", "packed", "--output", network(saved))
    assert "is the trained network itself" in told
    assert Path(network(saved)).read_bytes() == before
