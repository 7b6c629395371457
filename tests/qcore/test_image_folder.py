"""The user's own images: names, layouts, versions, and that nothing outside the data root is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import random_pixels, write_class_folders, write_image
from PIL import Image

from qcore import TASKS, Architecture, BitWidths, DataMissing, InvalidInput, evaluate, get_task, list_tasks, override
from qcore.data import Split, evaluation_batches, generator_for, load_data, steps_per_epoch, training_batches
from qcore.streaming import FileSplit
from qcore.tasks import Examples, FileExamples, Task, image_folder, stored_task

CPU = torch.device("cpu")
COUNTS = {"bolt": 10, "nut": 15, "washer": 5}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    write_class_folders(tmp_path / "images" / "parts", COUNTS)
    return tmp_path


def loaded(task: Task, data_root: Path) -> Examples:
    found = task.load(data_root)
    assert isinstance(found, Examples)
    return found


def test_class_folders_are_a_task_of_which_a_fifth_is_tested_on(parts: Path) -> None:
    task = get_task("images/parts", parts)
    assert (task.name, task.classes, task.input_shape, task.metric) == ("images/parts", 3, (3, 32, 32), "accuracy")
    assert (task.train_examples, task.validation_examples, task.test_examples) == (24, 0, 6)
    found = loaded(task, parts)
    assert found.train_inputs.shape == (24, 3, 32, 32)
    assert np.bincount(found.train_labels).tolist() == [8, 12, 4]
    assert np.bincount(found.test_labels).tolist() == [2, 3, 1]
    # Every image is in one of them, as its class.
    files = [
        (np.asarray(Image.open(path).resize((43, 32), Image.Resampling.BILINEAR))[:, 5:37], label)  # 40x30: to 42.7x32
        for label, name in enumerate(COUNTS)
        for path in sorted((parts / "images" / "parts" / name).iterdir())
    ]
    assert len(files) == 30
    seen = {(image.tobytes(), int(label)) for image, label in zip(found.train_inputs, found.train_labels, strict=True)}
    seen |= {(image.tobytes(), int(label)) for image, label in zip(found.test_inputs, found.test_labels, strict=True)}
    assert len(seen) == 30
    labels_of = dict(seen)
    close = [
        min(labels_of, key=lambda pixels: np.abs(as_image(pixels).astype(int) - expected).sum())
        for expected, _ in files
    ]
    assert [labels_of[pixels] for pixels in close] == [label for _, label in files]
    assert len(set(close)) == 30


def as_image(pixels: bytes) -> np.ndarray:
    return np.frombuffer(pixels, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)


def test_which_images_are_tested_on_does_not_change_when_others_come(parts: Path) -> None:
    before = image_folder.read_contents("images/parts", "parts", parts)
    write_image(parts / "images/parts/bolt/zzz.png", random_pixels(9, 30, 30))
    after = image_folder.read_contents("images/parts", "parts", parts)
    assert set(before.test) - set(after.test) == set()
    assert {path for path, _ in after.train + after.test} - {path for path, _ in before.train + before.test} == {
        "bolt/zzz.png"
    }
    assert {path for path, label in before.test if label == 1} == {path for path, label in after.test if label == 1}


def test_train_val_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    for seed, (split, count) in enumerate({"train": 6, "val": 3, "test": 2}.items()):
        write_class_folders(tmp_path / "images/own" / split, {"a": count, "b": count + 1}, (40, 30), 100 * seed)
    task = get_task("images/own", tmp_path)
    assert (task.train_examples, task.validation_examples, task.test_examples) == (13, 7, 5)
    data = load_data(task, 0.25, tmp_path, CPU)
    assert (len(data.train), len(data.validation), len(data.test)) == (13, 7, 5)
    assert isinstance(data.validation, Split)
    assert data.validation.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    first = tmp_path / "images/own/val/a/000.png"
    expected = Image.open(first).resize((42, 32), Image.Resampling.BILINEAR).crop((5, 0, 37, 32))
    assert np.array_equal(data.validation.inputs[0].numpy().transpose(1, 2, 0), np.asarray(expected))


def test_without_test_images_a_fifth_of_the_training_images_is_tested_on(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "images/own/train", {"a": 10, "b": 5})
    write_class_folders(tmp_path / "images/own/val", {"a": 1, "b": 1})
    task = get_task("images/own", tmp_path)
    assert (task.train_examples, task.validation_examples, task.test_examples) == (12, 2, 3)


def test_the_size_is_part_of_the_name_which_has_one_form(parts: Path) -> None:
    task = get_task("images/parts@48", parts)
    assert (task.name, task.input_shape) == ("images/parts@48", (3, 48, 48))
    assert loaded(task, parts).test_inputs.shape == (6, 3, 48, 48)
    assert get_task("images/parts@32", parts).name == "images/parts"
    for name in ("images/parts@7", "images/parts@513"):
        with pytest.raises(InvalidInput, match="use @8 to @512"):
            get_task(name, parts)


@pytest.mark.parametrize(
    "name",
    [
        "images/",
        "images/..",
        "images/../images/parts",
        "images//etc",
        "images/parts/bolt",
        "images/.hidden",
        "images/parts@",
        "images/parts@032",
        "images/parts@32@32",
        "images/parts\n",
        "images/p\u0660rts",
        "images/" + "a" * 60,
    ],
)
def test_other_names_are_refused_with_the_form_they_have(name: str, parts: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        get_task(name, parts)
    assert (raised.value.field, raised.value.value) == ("task", name)
    assert "images/<folder>@<size>" in raised.value.remedy


def test_symbolic_links_may_not_lead_out_of_the_data_root(tmp_path: Path) -> None:
    inside, outside = tmp_path / "root", tmp_path / "elsewhere"
    write_class_folders(outside, {"a": 3, "b": 3})
    (inside / "images").mkdir(parents=True)
    (inside / "images/all").symlink_to(outside)
    write_class_folders(inside / "images/class", {"a": 3})
    (inside / "images/class/b").symlink_to(outside / "b")
    write_class_folders(inside / "images/file", {"a": 3, "b": 3})
    (inside / "images/file/b/one.png").symlink_to(outside / "b/000.png")
    write_class_folders(inside / "images/split/train", {"a": 3, "b": 3})
    (inside / "images/split/test").symlink_to(outside)
    for name in ("all", "class", "file", "split"):
        with pytest.raises(DataMissing, match="leads outside the data root"):
            get_task(f"images/{name}", inside)
    write_class_folders(inside / "images/loop", {"a": 3, "b": 3})
    (inside / "images/loop/b/round.png").symlink_to("round.png")
    with pytest.raises(DataMissing, match=r"leads outside the data root by .*round\.png"):
        get_task("images/loop", inside)
    assert "images/loop" not in {task.name for task in list_tasks(inside)}
    write_class_folders(inside / "shared", {"a": 3, "b": 3})
    (inside / "images/fine").symlink_to(inside / "shared")
    assert get_task("images/fine", inside).classes == 2


def test_the_version_follows_names_and_sizes_and_nothing_else(parts: Path, tmp_path: Path) -> None:
    def version(size: str = "") -> str:
        return get_task(f"images/parts{size}", parts).version

    folder, versions = parts / "images/parts", [version()]
    assert len(versions[0]) <= 64
    (folder / "README.txt").write_text("no image")
    (folder / "bolt/.hidden.png").write_bytes(b"")
    (folder / "bolt/labels.csv").write_text("a,b")
    os.utime(folder / "bolt/000.png", (0, 0))
    assert version() == version("@64") == versions[0]
    (folder / "bolt/000.png").rename(folder / "bolt/0000.png")
    versions.append(version())
    with (folder / "bolt/0000.png").open("ab") as file:
        file.write(b"\0")
    versions.append(version())
    (folder / "bolt/0000.png").rename(folder / "nut/0000.png")
    versions.append(version())
    (folder / "nut/0000.png").unlink()
    versions.append(version())
    assert len(set(versions)) == 5


def test_a_stored_task_is_known_without_its_images_and_insists_on_them(parts: Path, tmp_path: Path) -> None:
    task = get_task("images/parts@16", parts)
    stored = stored_task(task.name, task.version)
    fields = ("name", "version", "classes", "input_shape", "train_examples", "test_examples", "recipes", "blocks")
    for field in fields:
        assert getattr(stored, field) == getattr(task, field), field
    other_host = tmp_path / "other"
    write_class_folders(other_host / "images/parts", COUNTS)
    assert np.array_equal(loaded(stored, other_host).train_inputs, loaded(task, parts).train_inputs)
    (other_host / "images/parts/nut/003.png").unlink()
    for fails in (stored.check, stored.load):
        with pytest.raises(DataMissing, match="has other images than asked for") as raised:
            fails(other_host)
        assert stored.version in raised.value.problem
    with pytest.raises(DataMissing, match="lacks the folder"):
        stored.load(tmp_path / "nowhere")


def test_folders_are_listed_beside_the_other_tasks_without_reading_an_image(parts: Path) -> None:
    (parts / "images/parts/bolt/000.png").write_bytes(b"broken")
    write_class_folders(parts / "images/animals", {"cat": 2, "dog": 2})
    (parts / "images/empty").mkdir()
    (parts / "images/of no name").mkdir()
    assert [task.name for task in list_tasks(parts)] == [*TASKS, "images/animals", "images/parts"]
    assert [task.name for task in list_tasks(parts / "nowhere")] == list(TASKS)


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ({"one/a.png"}, "has 1 class folders"),
        ({"a.png", "b.png"}, "has 0 class folders"),
        ({"a/1.png", "a/2.png", "b/1.png"}, "has fewer than 2 images in .*/own/b"),
        ({"a/1.png", "a/2.png", "b/1.txt"}, "has fewer than 2 images in .*/own/b"),
        (
            {"train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png", "test/c/1.png"},
            "has test/c, which is no",
        ),
        ({"train/a/1.png", "train/b/1.png", "test/a/1.txt"}, "has no images in .*/own/test"),
        ({"train/a/1.png", "train/b/1.txt", "test/a/1.png"}, "has fewer than 1 images in .*/own/train/b"),
    ],
)
def test_a_folder_that_is_no_task_says_what_it_lacks(layout: set[str], problem: str, tmp_path: Path) -> None:
    for file in layout:
        path = tmp_path / "images/own" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(DataMissing, match=problem) as raised:
        get_task("images/own", tmp_path)
    assert str(tmp_path / "images/own") in raised.value.remedy


@pytest.mark.parametrize("most_bytes", [2**29, 0])
@pytest.mark.parametrize("processes", [0, 2])
def test_a_broken_image_is_named_wherever_it_is_decoded(
    most_bytes: int, processes: int, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "MOST_BYTES_IN_MEMORY", most_bytes)
    broken = parts / "images/parts/nut/005.png"
    broken.write_bytes(broken.read_bytes()[:60])
    task = get_task("images/parts", parts)

    def read_all() -> None:
        data = load_data(task, 0.0, parts, CPU, processes)
        for split in (data.train, data.test):
            list(evaluation_batches(data, split))

    with pytest.raises(DataMissing) as raised:
        read_all()
    assert str(broken) in raised.value.problem


@pytest.mark.parametrize("processes", [0, 2])
def test_images_give_the_same_batches_bit_for_bit_in_memory_and_from_files(
    processes: int, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = get_task("images/parts", parts)
    recipe = override(task.recipes[0], {"float_part": {"batch_size": 5, "flip": True}}).float_part
    assert recipe.crop_padding == 4
    in_memory = load_data(task, 0.2, parts, CPU)
    monkeypatch.setattr(image_folder, "MOST_BYTES_IN_MEMORY", 30 * 3 * 32 * 32 - 1)
    assert isinstance(task.load(parts), FileExamples)
    streamed = load_data(task, 0.2, parts, CPU, processes)
    assert isinstance(streamed.train, FileSplit)
    assert steps_per_epoch(in_memory, recipe) == steps_per_epoch(streamed, recipe) == 3
    for one, other in (
        (training_batches(in_memory, recipe, generator_for(1)), training_batches(streamed, recipe, generator_for(1))),
        *(
            (
                evaluation_batches(in_memory, getattr(in_memory, name)),
                evaluation_batches(streamed, getattr(streamed, name)),
            )
            for name in ("train", "validation", "test")
        ),
    ):
        for (x, labels), (other_x, other_labels) in zip(one, other, strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("most_bytes", [2**29, 0])
def test_a_network_learns_the_users_own_images(
    most_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "MOST_BYTES_IN_MEMORY", most_bytes)
    write_class_folders(tmp_path / "images/parts", {"dark": 60, "bright": 60}, (12, 16))  # named against their order
    task = get_task("images/parts@8", tmp_path)
    schedule = {"epochs": 6, "warmup_epochs": 0, "learning_rate": 0.05}
    recipe = override(task.recipes[0], {"float_part": {"schedule": schedule}, "retraining": {"schedule": schedule}})
    results = [
        result
        for _, result in evaluate(
            Architecture("basic", 8, 4), task, [BitWidths(2, 2)], recipe=recipe, data_root=tmp_path
        )
    ]
    assert [result.status for result in results] == ["done", "done"]
    for result in results:
        assert result.test_accuracy is not None
        assert result.test_accuracy >= 90
        assert result.validation_accuracy is not None
        assert result.validation_accuracy >= 80


def test_large_images_suit_the_networks_for_large_images(parts: Path) -> None:
    for size, suits in ((63, False), (64, True)):
        task = get_task(f"images/parts@{size}", parts)
        assert ("imagenet-preact" in task.blocks) == suits
        assert task.default_blocks == ("basic", "preact", "depthwise")
