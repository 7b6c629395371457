"""Figures 5 and 12 on a data set in VOC's format, small enough to train on in seconds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from qcore import Architecture, DataMissing, Network, Task, get_task
from qcore.data import generator_for
from qcore.reproduce import Options, get_experiment, runner
from qcore.reproduce.experiment import with_epochs
from qcore.reproduce.segmentation import ARCHITECTURE, CHECKPOINT, SegmentationFigure
from qcore.tasks import voc2012

SIDE, TRAINING, TEST = 33, 4, 2


class Silent:
    def start(self, *_: Any) -> None: ...
    def advance(self, *_: Any) -> None: ...
    def trained(self, *_: Any) -> None: ...


def write_voc(data_root: Path) -> None:
    folder = data_root / "VOCdevkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [f"2007_{index:06}" for index in range(TRAINING + TEST)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(
            folder / f"JPEGImages/{name}.jpg"
        )
        mask = Image.fromarray(random.integers(0, 3, (SIDE, SIDE), dtype=np.uint8), mode="P")
        mask.putpalette([channel for index in range(256) for channel in (index, 0, 0)])
        mask.save(folder / f"SegmentationClass/{name}.png")
    lists = folder / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("\n".join(names[:TRAINING]))
    (lists / "val.txt").write_text("\n".join(names[TRAINING:]))


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """``voc2012`` with fewer and smaller images, and recipes of one epoch."""
    monkeypatch.setattr(voc2012, "SIZE", SIDE)
    few = replace(voc2012.ORIGINAL, examples=TRAINING)
    recipe = with_epochs(get_task("voc2012").recipe("paper"), 1, 1)
    float_part = recipe.float_part.model_copy(update={"batch_size": 2})
    return replace(
        get_task("voc2012"),
        input_shape=(3, SIDE, SIDE),
        train_examples=TRAINING,
        test_examples=TEST,
        recipes=(recipe.model_copy(update={"name": "paper", "float_part": float_part}),),
        load=partial(voc2012.load, few, test_examples=TEST),
        check=partial(voc2012.check, few, test_examples=TEST),
    )


def test_overlays_are_drawn_from_a_checkpoint_fine_tuned_and_quantized(task: Task, tmp_path: Path) -> None:
    write_voc(tmp_path)
    network = Network(Architecture.parse(ARCHITECTURE).layers(task))
    network.initialize(generator_for(0))
    figure = SegmentationFigure("figure-12", "Overlays", TEST, with_truth=True)
    plan = figure.plan_on(task, "paper", Options())

    with pytest.raises(DataMissing, match=r"deeplabv3.*evaluate --save"):
        runner.run(plan, tmp_path / "store", tmp_path, 1, Silent())
    path = tmp_path / CHECKPOINT
    path.parent.mkdir()
    save_file(network.state_dict(), path)
    results = runner.run(plan, tmp_path / "store", tmp_path, 1, Silent())
    save_file({name: tensor + 0.01 for name, tensor in network.state_dict().items()}, path)
    changed = runner.run(plan, tmp_path / "store", tmp_path, 1, Silent())
    report = figure.report(results)
    drawn = figure.draw(results)

    (row,) = report.tables[0].rows
    assert row[0] == ARCHITECTURE
    assert all(0 <= each.test_accuracy <= 100 for each in results.trained.values() if each.test_accuracy is not None)
    assert len(results.trained) == 3
    assert not results.trained.keys() & changed.trained.keys(), "another float network is another stage"
    titles = [axes.get_title() for axes in drawn.axes]
    assert titles == ["image", "ground truth", "float", "2-bit W", "2-bit A"] * TEST


@pytest.mark.parametrize("name", ["figure-5", "figure-12", "table-2", "table-3"])
def test_at_paper_scale_missing_images_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="VOCtrainval"):
        runner.run(get_experiment(name).plan("paper", Options()), tmp_path, tmp_path, 1, Silent())


def test_table_3_trains_every_method_at_every_bit_widths() -> None:
    plan = get_experiment("table-3").plan("paper", Options())

    assert [str(stage.bit_widths) for stage in plan.stages()] == ["float", *["W8A8", "W6A6", "W4A4", "W3A3"] * 3]
    last = plan.variants[-1].recipe.retraining
    assert (last.lipschitz_scale, last.cyclic and last.cyclic.cycle_epochs * 91) == (1e-4, 3003)
