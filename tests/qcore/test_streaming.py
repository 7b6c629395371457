"""Data sets that are read file by file: the published layouts, and batches that no number of processes changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import random_pixels, write_image, write_voc
from PIL import Image
from torch import Tensor

from qcore import DataMissing, Task, get_task
from qcore.data import Data, evaluation_batches, generator_for, load_data, training_batches
from qcore.recipe import FloatRecipe
from qcore.tasks import FileExamples, imagenet, voc2012

CPU = torch.device("cpu")
WNIDS = ["n01440764", "n01443537", "n15075141"]
TRAIN, TRAINAUG, VAL = ["2007_000032", "2007_000039"], [f"2008_00000{n}" for n in range(1, 6)], ["2007_000033"]


@pytest.fixture
def small_imagenet(tmp_path: Path) -> tuple[Task, Path]:
    """Three classes of four training and two test images, one of them grayscale."""
    for label, wnid in enumerate(WNIDS):
        for index in range(4):
            write_image(
                tmp_path / "imagenet/train" / wnid / f"{wnid}_{index}.JPEG", random_pixels(label * 9 + index, 60, 50)
            )
        for index in range(2):
            write_image(
                tmp_path / "imagenet/val" / wnid / f"ILSVRC2012_val_{label}{index}.JPEG", random_pixels(label, 300, 260)
            )
    gray = tmp_path / "imagenet/train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG"
    Image.open(gray).convert("L").save(gray)
    load = partial(imagenet.load, classes=3, train_examples=12, test_examples=6)
    task = replace(get_task("imagenet"), classes=3, load=load, check=partial(imagenet.check, classes=3))
    return task, tmp_path


@pytest.fixture
def small_voc(tmp_path: Path) -> tuple[Task, Path]:
    """Two training images and one test image."""
    write_voc(tmp_path, {"train": TRAIN, "val": VAL})
    training = replace(voc2012.ORIGINAL, examples=2)
    load, check = (partial(each, training, test_examples=1) for each in (voc2012.load, voc2012.check))
    return replace(get_task("voc2012"), load=load, check=check), tmp_path


def small(task: Task, **changes: object) -> FloatRecipe:
    return task.recipes[0].float_part.model_copy(update={"batch_size": 2, **changes})


def epoch(data: Data, recipe: FloatRecipe, *stream: object) -> list[tuple[Tensor, Tensor]]:
    return list(training_batches(data, recipe, generator_for(*stream)))


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(a, b) for first, second in zip(one, other, strict=True) for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("which", ["small_imagenet", "small_voc"])
def test_an_epoch_follows_from_its_stream_alone_whatever_the_number_of_loader_processes(
    which: str, request: pytest.FixtureRequest
) -> None:
    task, root = request.getfixturevalue(which)
    alone, helped = load_data(task, 0.0, root, CPU, 0), load_data(task, 0.0, root, CPU, 2)
    recipe = small(task)
    torch.manual_seed(1)
    expected = epoch(alone, recipe, 0, "float", 1)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert same(epoch(helped, recipe, 0, "float", 1), expected)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not same(epoch(alone, recipe, 0, "float", 2), expected)
    assert not same(epoch(alone, recipe, 1, "float", 1), expected)
    assert same(list(evaluation_batches(alone, alone.test)), list(evaluation_batches(helped, helped.test)))


def test_an_example_varies_from_epoch_to_epoch_and_differs_from_others_that_are_equal(
    small_imagenet: tuple[Task, Path],
) -> None:
    task, root = small_imagenet
    for each in sorted((root / "imagenet/train").rglob("*.JPEG")):
        each.write_bytes((root / "imagenet/train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").read_bytes())
    data = load_data(task, 0.0, root, CPU, 0)
    images = [image for stream in range(2) for x, _ in epoch(data, small(task), stream) for image in x]
    assert len(images) == 24
    assert len({image.numpy().tobytes() for image in images}) == 24


def test_imagenets_folders_are_classes_in_order_and_its_validation_images_the_test_split(
    small_imagenet: tuple[Task, Path],
) -> None:
    task, root = small_imagenet
    task.check(root)
    data = load_data(task, 0.25, root, CPU, 0)
    assert (len(data.train), len(data.validation), len(data.test)) == (9, 3, 6)
    ((x, labels),) = evaluation_batches(data, data.test)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert x.shape == (6, 3, 224, 224)
    image = Image.open(root / "imagenet/val" / WNIDS[1] / "ILSVRC2012_val_10.JPEG").resize(
        (295, 256), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(image.crop((36, 16, 260, 240))) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    torch.testing.assert_close(x[2], torch.from_numpy(expected.transpose(2, 0, 1)).float(), atol=1e-5, rtol=0)
    held_out = [label for _, labels in evaluation_batches(data, data.validation) for label in labels.tolist()]
    trained = [label for _, labels in evaluation_batches(data, data.train) for label in labels.tolist()]
    assert sorted(held_out + trained) == [0] * 4 + [1] * 4 + [2] * 4


def test_what_imagenet_lacks_is_said_with_where_to_get_it(small_imagenet: tuple[Task, Path]) -> None:
    task, root = small_imagenet

    def refusal(of: Task, *, by_names: bool = True) -> str:
        with pytest.raises(DataMissing) as raised:
            (of.check if by_names else of.load)(root)
        assert "ILSVRC2012_img_train.tar" in raised.value.remedy
        assert "https://image-net.org" in raised.value.remedy
        assert str(root / "imagenet") in raised.value.remedy
        return raised.value.problem

    assert refusal(get_task("imagenet")) == f"has 3 class folders instead of 1000 in {root}/imagenet/train"
    image = root / "imagenet/train" / WNIDS[0] / f"{WNIDS[0]}_3.JPEG"
    image.unlink()
    assert refusal(task, by_names=False) == f"has 11 *.JPEG instead of 12 below {root}/imagenet/train"
    (root / "imagenet/val" / WNIDS[2]).rename(root / "imagenet/val" / "n15075142")
    assert "n15075141 in only one of" in refusal(task)
    (root / "imagenet/val").rename(root / "imagenet/test")
    assert refusal(task) == f"lacks the folder {root}/imagenet/val"


def test_voc_trains_on_one_list_and_is_tested_on_whole_padded_images_of_another(small_voc: tuple[Task, Path]) -> None:
    task, root = small_voc
    task.check(root)
    data = load_data(task, 0.5, root, CPU, 0)
    assert (len(data.train), len(data.validation), len(data.test), data.metric) == (1, 1, 1, "mIOU")
    ((x, labels),) = evaluation_batches(data, data.test)
    assert x.shape == (1, 3, 513, 513)
    assert labels.shape == (1, 513, 513)
    mask = np.asarray(Image.open(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{VAL[0]}.png")).astype(np.int64)
    assert 255 in mask
    mask[mask == 255] = -100
    assert np.array_equal(labels[0, :40, :50], mask)
    assert set(labels[0, 40:].flatten().tolist()) == set(labels[0, :, 50:].flatten().tolist()) == {-100}
    assert x[0, :, 40:].abs().max() < 0.01  # the color around an image is the mean one


def test_voc_batches_are_of_the_networks_size_with_classes_or_what_is_ignored(small_voc: tuple[Task, Path]) -> None:
    task, root = small_voc
    data = load_data(task, 0.0, root, CPU, 0)
    ((x, labels),) = epoch(data, small(task), 0)
    assert x.shape == (2, 3, 513, 513)
    assert labels.shape == (2, 513, 513)
    assert labels.dtype == torch.int64
    assert set(labels.flatten().tolist()) <= {*range(21), -100}


def test_augmented_voc_trains_on_its_own_list_and_grayscale_masks(tmp_path: Path) -> None:
    write_voc(tmp_path, {"trainaug": TRAINAUG, "val": VAL})
    training = replace(voc2012.AUGMENTED, examples=5)
    task = replace(get_task("voc2012-aug"), load=partial(voc2012.load, training, test_examples=1))
    found = task.load(tmp_path)
    assert isinstance(found, FileExamples)
    assert found.train.names.tolist() == [f"JPEGImages/{each}.jpg".encode() for each in TRAINAUG]
    data = load_data(task, 0.0, tmp_path, CPU, 0)
    masks = torch.cat([labels for _, labels in evaluation_batches(data, data.train)])
    for mask, name in zip(masks, TRAINAUG, strict=True):
        expected = np.asarray(Image.open(tmp_path / f"VOCdevkit/VOC2012/SegmentationClassAug/{name}.png"))
        assert np.array_equal(mask[:40, :50], np.where(expected == 255, -100, expected.astype(np.int64)))


@pytest.mark.parametrize("name", ["voc2012", "voc2012-aug"])
def test_what_voc_lacks_is_said_with_where_to_get_it(name: str, tmp_path: Path) -> None:
    def refusal(training: object, *, examples: int = 5) -> str:
        with pytest.raises(DataMissing) as raised:
            voc2012.check(replace(training, examples=examples), tmp_path, test_examples=1)  # type: ignore[type-var]
        assert raised.value.value == name
        assert "VOCtrainval_11-May-2012.tar" in raised.value.remedy
        assert f"VOCSegmentation('{tmp_path}', download=True)" in raised.value.remedy
        return raised.value.problem

    training = {each.task: each for each in (voc2012.ORIGINAL, voc2012.AUGMENTED)}[name]
    with pytest.raises(DataMissing) as raised:
        get_task(name).check(tmp_path)
    assert ("SBD" in raised.value.remedy) == (name == "voc2012-aug")
    assert f"{training.images}.txt" in refusal(training)
    folder = write_voc(tmp_path, {training.images: TRAINAUG, "val": VAL})
    assert refusal(training, examples=6).startswith("has 5 images instead of 6 in ")
    voc2012.check(replace(training, examples=5), tmp_path, test_examples=1)
    (folder / "JPEGImages/2008_000002.jpg").unlink()
    (folder / training.masks / "2008_000003.png").unlink()
    assert refusal(training) == f"lacks JPEGImages/2008_000002.jpg and 1 more files in {folder}"
    lists = folder / "ImageSets/Segmentation"
    (lists / f"{training.images}.txt").write_text("/JPEGImages/2008_000001.jpg /SegmentationClassAug/2008_000001.png\n")
    assert "is no image's identifier" in refusal(training)
    (lists / f"{training.images}.txt").write_text("\n".join([*TRAINAUG[:1], *TRAINAUG[3:], "2007_000033", "../../x"]))
    assert "../../x is no image's identifier" in refusal(training)


def test_images_that_are_tested_on_are_not_trained_on(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": [*TRAIN, *VAL], "val": VAL})
    with pytest.raises(DataMissing, match=f"would train on {VAL[0]}"):
        voc2012.check(replace(voc2012.ORIGINAL, examples=3), tmp_path, test_examples=1)


DECODES = """
import time
import numpy as np, torch
from qcore.streaming import FileSplit
from qcore.tasks.task import Files
class Reader:
    shape = (3, 64, 64)
    def read(self, name, target):
        return np.zeros(self.shape, np.uint8), np.int64(target)
files = Files(np.array([b"a"] * 64), np.zeros(64, np.int64))
split = FileSplit(files, Reader(), torch.device("cpu"), 2)
for _ in split.batches(torch.arange(64), 8):
    print("decoding", flush=True)
    time.sleep(600)
"""


def test_loader_processes_end_though_the_one_that_trains_is_killed_and_takes_no_more_from_them() -> None:
    training = subprocess.Popen([sys.executable, "-c", DECODES], stdout=subprocess.PIPE, text=True)
    assert training.stdout is not None
    assert training.stdout.readline() == "decoding\n"
    training.kill()
    training.communicate(timeout=30)  # to the end of the pipe: nobody holds it any more
