"""``quantrank reproduce``, as a user runs it at its smallest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qcore import Architecture, BitWidths, Recipe, Stage, get_task
from service.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "ARTIFACTS", "DATASETS", "URL", "LEASE_SECONDS"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("QUANTRANK_HOME", str(home))
    return home


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["reproduce", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["reproduce", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("figure", ["figure-1", "figure-3"])
def test_figures_on_the_rings_put_measured_beside_published(
    figure: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = [] if figure == "figure-1" else ["--policy", "same"]
    picture = tmp_path / "maps.png"

    found = printed(
        capsys, figure, "--scale", "smoke", "--seeds", "0", "--workers", "1", "--output", str(picture), *options
    )

    assert found["task"] == "rings"
    (table,) = found["tables"]
    row = table["rows"][0]
    assert row["network"] in ("128-3", "128-4")
    assert 0 <= row["float"]["mean"] <= 100
    if figure != "figure-1":
        assert row["W2A2 paper"] == 84.8
        assert len(found["verdicts"]) == 3
        assert all(each["seeds"] == 1 for each in found["verdicts"])
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_training_methods_are_compared_seed_by_seed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "lsq.svg"
    arguments = ["lsq-comparison", "--scale", "smoke", "--workers", "1"]

    assert main(["reproduce", *arguments, "--output", str(picture)]) == 0
    shown = capsys.readouterr()
    found = printed(capsys, *arguments)

    assert "difference to L2 + PACT" in shown.out
    assert "6/6" in shown.err
    start = "short, 2+1 epochs (float_part.schedule.epochs = 2, "
    assert f"Recipe of L2 + PACT: {start}" in shown.out
    assert f"Recipe of LSQ: {start}" in shown.out
    assert shown.out.count("retraining.quantizers.weight_step = learned") == 1
    base, learned = found["tables"][0]["rows"]
    assert learned["difference to L2 + PACT"]["count"] == 2
    difference = learned["W2A2"]["mean"] - base["W2A2"]["mean"]
    assert learned["difference to L2 + PACT"]["mean"] == pytest.approx(difference)
    assert len({each["key"] for each in found["stages"]}) == 6
    for each in found["stages"]:
        recipe = Recipe.stored({"name": each["recipe"], **each["recipe_settings"]})
        assert recipe.hash() == each["recipe_hash"]
        seed, bits = each["seed"], BitWidths.parse(each["bit_widths"])
        stage = Stage(get_task("digits"), Architecture.parse(each["architecture"]), recipe, seed, bits)
        assert stage.key == each["key"]
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize("name", ["figure-4", "figure-11"])
def test_drawings_need_no_training(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "drawing.png"

    found = printed(capsys, name, "--output", str(picture))

    assert found["stages"] == []
    assert picture.stat().st_size > 10_000


def test_table_1_below_paper_scale_is_counted_without_hours_or_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table-1", "--scale", "smoke"]) == 0
    shown = capsys.readouterr()

    assert "imagenet-preact-L34-D64-B3.4.6.3" in shown.out
    assert "parameters within 0.1 M" in shown.out
    assert "accuracies were not measured" in shown.out
    assert shown.err == ""


def test_table_1_at_paper_scale_says_which_images_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table-1", "--scale", "paper"]) == 2
    shown = capsys.readouterr()

    assert "14 stages" in shown.err
    assert "imagenet/train" in shown.err
    assert "imagenet-preact-L34-D64-B3.4.6.3" in shown.out


def test_missing_data_are_named_with_the_hours_it_would_take(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    told = refused(capsys, "table-5", "--scale", "paper")

    assert "cifar-10-batches-bin" in told
    assert str(home) in told
    assert " h on " in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["figure-13"], "figure-12"),
        (["figure-2", "--policy", "none"], "float, 8, same"),
        (["table-4", "--policy", "same"], "leave --policy out"),
        (["figure-2", "--seeds", "1,1"], "twice"),
        (["figure-2", "--seeds", "-1"], "out of range"),
        (["figure-2", "--workers", "0"], "cores"),
        (["figure-2", "--output", "map.gif"], ".png or .svg"),
        (["figure-2", "--output", "/nowhere/map.png"], "make the folder"),
    ],
)
def test_unusable_options_are_refused_before_training(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert told in refused(capsys, *arguments)
    assert not (home / "reproduce").exists()


def test_planning_an_experiment_loads_no_training_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from qcore.reproduce import EXPERIMENTS, Options; "
        "EXPERIMENTS['figure-8'].plan('cpu', Options()); "
        "print(*{'torch', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
