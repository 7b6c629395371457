"""Tasks: files in their published formats, what is said when they are missing or damaged, and declared numbers."""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from qcore import TASKS, DataMissing, InvalidInput, get_task, override
from qcore.data import load_data
from qcore.tasks import Examples, cifar, fashion_mnist, fashion_mnist_14
from qcore.tasks.fashion_mnist_14 import mean_pooled

Images = npt.NDArray[np.uint8]

IDX_FILES = {
    "train-images-idx3-ubyte": "train_inputs",
    "train-labels-idx1-ubyte": "train_labels",
    "t10k-images-idx3-ubyte": "test_inputs",
    "t10k-labels-idx1-ubyte": "test_labels",
}


def random_examples(train: int, test: int, shape: tuple[int, ...]) -> Examples:
    random = np.random.default_rng(0)

    def images(count: int) -> Images:
        return random.integers(0, 256, (count, *shape), dtype=np.uint8)

    def labels(count: int) -> npt.NDArray[np.int64]:
        return random.integers(0, 10, count)

    return Examples(images(train), labels(train), images(test), labels(test))


def assert_equal(found: Examples, expected: Examples) -> None:
    for name in IDX_FILES.values():
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        assert np.array_equal(one, other), name


def idx(values: npt.NDArray[Any]) -> bytes:
    """Zero, zero, type 8 for unsigned bytes, the number of dimensions, each of them big-endian, the bytes."""
    values = values.astype(np.uint8)
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_fashion_mnist(folder: Path, examples: Examples, *, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, attribute in IDX_FILES.items():
        values = getattr(examples, attribute)
        content = idx(values[:, 0] if values.ndim == 4 else values)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture
def no_system_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", folder)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_read_from_files_below_the_data_root(
    *, packed: bool, tmp_path: Path, no_system_files: Path
) -> None:
    expected = random_examples(12, 5, (1, 28, 28))
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw", expected, packed=packed)
    get_task("fashion-mnist").check(tmp_path)
    assert_equal(get_task("fashion-mnist").load(tmp_path), expected)


def test_fashion_mnist_is_read_from_the_systems_files_where_the_data_root_has_none(
    tmp_path: Path, no_system_files: Path
) -> None:
    expected = random_examples(7, 3, (1, 28, 28))
    write_fashion_mnist(no_system_files, expected, packed=True)
    for _ in range(2):  # the second time from what the first unpacked
        assert_equal(get_task("fashion-mnist").load(tmp_path / "data"), expected)


def test_files_below_the_data_root_come_before_the_systems(tmp_path: Path, no_system_files: Path) -> None:
    expected = random_examples(7, 3, (1, 28, 28))
    write_fashion_mnist(no_system_files, random_examples(9, 4, (1, 28, 28)), packed=True)
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw", expected, packed=False)
    assert_equal(get_task("fashion-mnist").load(tmp_path), expected)


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-mnist-14"])
@pytest.mark.parametrize("lacking", [list(IDX_FILES), ["t10k-labels-idx1-ubyte"]])
def test_missing_fashion_mnist_files_are_named_with_where_and_how_to_get_them(
    name: str, lacking: list[str], tmp_path: Path, no_system_files: Path
) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    write_fashion_mnist(folder, random_examples(3, 2, (1, 28, 28)), packed=True)
    for file in lacking:
        (folder / f"{file}.gz").unlink()
    for fails in (get_task(name).check, get_task(name).load):
        with pytest.raises(DataMissing) as raised:
            fails(tmp_path)
        assert raised.value.field == "task"
        assert raised.value.value == name
        for file in IDX_FILES:
            assert (file in raised.value.problem) == (file in lacking)
        assert str(folder) in raised.value.problem
        assert "dataset-fashion-mnist" in raised.value.remedy
        assert f"FashionMNIST('{tmp_path}', download=True)" in raised.value.remedy


def test_pooling_averages_squares_of_four_pixels_and_rounds_halves_to_even() -> None:
    image = np.array(
        [
            [0, 1, 1, 2, 255, 255],
            [1, 0, 3, 4, 255, 254],
            [0, 0, 10, 20, 0, 2],
            [0, 1, 30, 41, 2, 2],
        ],
        dtype=np.uint8,
    )
    # Means 0.5, 2.5, 254.75, 0.25, 25.25, 1.5.
    assert mean_pooled(image[None, None]).tolist() == [[[[0, 2, 255], [0, 25, 2]]]]
    assert mean_pooled(image[None, None]).dtype == np.uint8


def test_fashion_mnist_14_has_the_first_training_images_and_all_test_images_pooled(
    tmp_path: Path, no_system_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fashion_mnist_14.TRAIN_EXAMPLES == 20_000
    monkeypatch.setattr(fashion_mnist_14, "TRAIN_EXAMPLES", 4)
    whole = random_examples(9, 5, (1, 28, 28))
    write_fashion_mnist(tmp_path / "FashionMNIST" / "raw", whole, packed=False)
    found = get_task("fashion-mnist-14").load(tmp_path)
    for pooled, images in [(found.train_inputs, whole.train_inputs[:4]), (found.test_inputs, whole.test_inputs)]:
        assert pooled.shape == (len(images), 1, 14, 14)
        for (image, _, row, column), value in np.ndenumerate(pooled):
            square = images[image, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert value == round(square.sum() / 4)
    assert np.array_equal(found.train_labels, whole.train_labels[:4])
    assert np.array_equal(found.test_labels, whole.test_labels)


def write_cifar(name: str, data_root: Path, examples: Examples, parts: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The binary files of CIFAR-10 or CIFAR-100 with other images, taken for the published ones."""
    published = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}[name]
    folder = data_root / published.folder
    folder.mkdir(parents=True)

    def records(images: Images, labels: npt.NDArray[np.int64]) -> bytes:
        # A record: labels, the coarse one first; then 1024 red values, line by line, then the green and the blue ones.
        kinds = [labels // 5 + 1, labels] if name == "cifar100" else [labels]
        return np.column_stack([*kinds, images.reshape(len(images), 3072)]).astype(np.uint8).tobytes()

    train = zip(np.split(examples.train_inputs, parts), np.split(examples.train_labels, parts), strict=True)
    contents = dict(zip(published.train, [records(*each) for each in train], strict=True))
    (test,) = published.test
    contents[test] = records(examples.test_inputs, examples.test_labels)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
        of_split = published.train if file in published.train else published.test
        monkeypatch.setitem(of_split, file, hashlib.md5(content).hexdigest())
    return folder


def test_cifar10_is_read_from_the_published_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = random_examples(15, 4, (3, 32, 32))
    write_cifar("cifar10", tmp_path, expected, 5, monkeypatch)
    get_task("cifar10").check(tmp_path)
    assert_equal(get_task("cifar10").load(tmp_path), expected)


@pytest.mark.parametrize("file", ["data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"])
def test_a_missing_cifar10_file_is_named_with_where_and_how_to_get_it(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cifar("cifar10", tmp_path, random_examples(5, 1, (3, 32, 32)), 5, monkeypatch)
    (folder / file).unlink()
    for fails in (get_task("cifar10").check, get_task("cifar10").load):
        with pytest.raises(DataMissing, match=f"lacks {file} in ") as raised:
            fails(tmp_path)
        assert str(folder) in raised.value.problem
        assert f"kriz/cifar-10-binary.tar.gz | tar -xz -C {tmp_path}" in raised.value.remedy


@pytest.mark.parametrize("file", ["data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"])
def test_a_damaged_cifar10_file_is_refused(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar("cifar10", tmp_path, random_examples(5, 1, (3, 32, 32)), 5, monkeypatch)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(DataMissing, match="damaged files") as raised:
        get_task("cifar10").load(tmp_path)
    assert str(folder) in raised.value.problem


def test_cifar100_is_read_from_the_published_files_with_its_fine_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = random_examples(15, 4, (3, 32, 32))
    folder = write_cifar("cifar100", tmp_path, expected, 1, monkeypatch)
    task = get_task("cifar100")
    assert (task.classes, task.train_examples, task.test_examples) == (100, 50_000, 10_000)
    task.check(tmp_path)
    assert_equal(task.load(tmp_path), expected)
    content = bytearray((folder / "test.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "test.bin").write_bytes(content)
    with pytest.raises(DataMissing, match="damaged files"):
        task.load(tmp_path)
    (folder / "test.bin").unlink()
    with pytest.raises(DataMissing, match=r"'cifar100' lacks test\.bin in ") as raised:
        task.check(tmp_path)
    assert "cifar-100-binary.tar.gz" in raised.value.remedy


def test_every_fifth_of_the_librarys_digits_is_a_test_image_scaled_to_whole_bytes() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    found = get_task("digits").load(Path("unused"))
    assert len(found.train_labels) == 1438
    assert len(found.test_labels) == 359
    train = [index for index in range(1797) if index % 5 != 4]
    scaled = np.array([round(gray * 255 / 16) for gray in range(17)])[digits.images.astype(int)]
    assert np.array_equal(found.test_inputs[:, 0], scaled[4::5])
    assert np.array_equal(found.train_inputs[:, 0], scaled[train])
    assert np.array_equal(found.test_labels, digits.target[4::5])
    assert np.array_equal(found.train_labels, digits.target[train])


def available(name: str, data_root: Path) -> Examples:
    try:
        return get_task(name).load(data_root)
    except DataMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "fashion-mnist-14", "rings"])
def test_data_are_as_their_task_declares_them(name: str, tmp_path: Path) -> None:
    task, found = get_task(name), available(name, tmp_path)
    assert found.train_inputs.shape == (task.train_examples, *task.input_shape)
    assert found.test_inputs.shape == (task.test_examples, *task.input_shape)
    for inputs in (found.train_inputs, found.test_inputs):
        assert inputs.dtype == (np.uint8 if task.input_bits == 8 else np.float32)
    for labels, count in [(found.train_labels, task.train_examples), (found.test_labels, task.test_examples)]:
        assert labels.dtype == np.int64
        assert labels.shape == (count,)
        assert set(labels.tolist()) == set(range(task.classes))

    if task.input_bits == 8:
        scaled = found.train_inputs / np.float32(255)
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (task.mean, task.std))
        normalized = (scaled - mean) / std
        assert normalized.mean(axis=(0, 2, 3)) == pytest.approx([0] * task.input_shape[0], abs=0.02)
        assert normalized.std(axis=(0, 2, 3)) == pytest.approx([1] * task.input_shape[0], abs=0.02)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3])
def test_a_task_says_how_many_examples_a_recipe_holds_out(share: float, tmp_path: Path) -> None:
    digits = get_task("digits")
    recipe = override(digits.recipes[0], {"float_part": {"validation_share": share}})

    data = load_data(digits, share, tmp_path, torch.device("cpu"))

    assert digits.validation_size(recipe) == len(data.validation)
    assert replace(digits, validation_examples=77).validation_size(recipe) == 77


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as raised:
        get_task("mnist")
    assert raised.value.field == "task"
    assert raised.value.remedy == f"use one of {', '.join(TASKS)}, or images/<folder> for your own images"


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_listed_under_its_own_name_with_a_mean_and_deviation_for_each_channel(name: str) -> None:
    task = get_task(name)
    assert task.name == name
    assert len(task.mean) == len(task.std) == task.input_shape[0]
