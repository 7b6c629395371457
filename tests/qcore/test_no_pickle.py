"""No data that quantrank reads can run code: no pickle is read, whatever a file is called and wherever it lies."""

from __future__ import annotations

import ast
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_tasks import idx, random_examples

from qcore import DataMissing, InvalidInput, evaluate, get_task
from qcore.architecture import Architecture
from qcore.bit_widths import BitWidths
from qcore.checkpoints import CheckpointFile, from_bytes, read_checkpoint, read_tensors
from qcore.export.network_file import read_network_file, read_state
from qcore.recipe import override
from qcore.tasks import cifar, fashion_mnist
from searcher.artifacts import Artifacts

CHECKOUT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("qcore", "searcher", "service") for path in (CHECKOUT / package).rglob("*.py"))

MODULES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
CALLS = {"eval", "exec", "hub", "jit.load", "package", "PickleType", "read_pickle", "unpack_archive", "yaml.load"}
"""Names, or how dotted ones end, that run what they read, or read what they are told to from elsewhere."""


def suspects(source: str) -> list[str]:
    """What in a module might read a pickle, or run what it reads otherwise."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if MODULES & set(each.name.split("."))]
        elif isinstance(node, ast.ImportFrom):
            names = {*(node.module or "").split("."), *(each.name for each in node.names)}
            found += sorted((MODULES | {"PickleType"}) & names)
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            unsafe_load = name == "torch.load" and given.get("weights_only") != "True"
            if unsafe_load or given.get("allow_pickle", "False") != "False":
                found.append(ast.unparse(node))
            elif any(name == each or name.endswith(f".{each}") for each in CALLS):
                found += [] if name.endswith(".eval") else [name]  # a torch module's mode
    return found


def test_no_module_reads_pickles_or_runs_what_it_reads() -> None:
    found = {str(path.relative_to(CHECKOUT)): suspects(path.read_text()) for path in SOURCES}

    assert len(found) > 100
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import ray.cloudpickle as p",
        "from joblib import load",
        "from sqlalchemy import PickleType",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pandas.read_pickle(path)",
        "torch.jit.load(path)",
        "eval(text)",
    ],
)
def test_what_does_is_noticed(source: str) -> None:
    assert suspects(source)


def test_what_does_not_is_left_alone() -> None:
    assert suspects("torch.load(x, weights_only=True); np.load(x); network.eval(); safetensors.torch.load(x)") == []


_heard: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _heard:
        _heard[-1].append(".".join(map(str, arguments)))


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_hear)  # for as long as the process lives


@contextmanager
def listening() -> Iterator[list[str]]:
    """What pickles ask for by name while the block lasts."""
    _heard.append([])
    try:
        yield _heard[-1]
    finally:
        _heard.pop()


class Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that leaves a trace when it is read, which fails the test."""
    trace = tmp_path / "somebody-was-here"
    content = pickle.dumps(Bomb(trace))
    with listening() as heard:
        yield content
    assert heard == []
    assert not trace.exists()


def test_a_pickle_that_is_read_would_be_noticed(tmp_path: Path) -> None:
    with listening() as heard:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "trace")))

    assert "pathlib.PosixPath" in heard
    assert (tmp_path / "trace").exists()


def test_no_pickle_passes_for_a_network_or_a_training_state(tmp_path: Path, bomb: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(bomb)

    assert from_bytes(bomb) is None
    assert read_tensors(path) is None
    assert read_checkpoint(CheckpointFile(path)) is None
    for read in (lambda: read_state(bomb, "file"), lambda: read_network_file(path)):
        with pytest.raises(InvalidInput):
            read()
    store = Artifacts(tmp_path / "store")
    digest = store.write_network(bomb)
    with pytest.raises(InvalidInput):
        read_state(store.read_network("0" * 64, digest), "network")


@pytest.mark.parametrize("name", ["mine.safetensors", "mine.pth"])
def test_no_pickle_passes_for_a_network_to_start_from(name: str, tmp_path: Path, bomb: bytes) -> None:
    (tmp_path / name).write_bytes(bomb)
    task = get_task("digits")
    recipe = override(task.recipe("short"), {"float_part": {"checkpoint": {"path": name}}})

    with pytest.raises(InvalidInput, match="checkpoint"):
        list(evaluate(Architecture("basic", 8, 3), task, [BitWidths(2, 2)], recipe=recipe, data_root=tmp_path))


def test_no_pickle_passes_for_an_image(tmp_path: Path, bomb: bytes) -> None:
    for name in ("cat", "dog"):
        folder = tmp_path / "images" / "pets" / name
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (8, 8)).save(folder / f"{index}.png")
    (tmp_path / "images" / "pets" / "dog" / "1.png").write_bytes(bomb)
    task = get_task("images/pets", tmp_path)

    with pytest.raises(DataMissing, match=r"1\.png"):
        task.load(tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_no_pickle_passes_for_cifar(name: str, tmp_path: Path, bomb: bytes) -> None:
    published = {"cifar10": cifar.CIFAR10, "cifar100": cifar.CIFAR100}[name]
    for folder in (published.folder, "cifar-10-batches-py", "cifar-100-python"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for file in (*published.train, *published.test, "data_batch_1", "test_batch", "batches.meta", "train", "meta"):
            (tmp_path / folder / file).write_bytes(bomb)

    with pytest.raises(DataMissing, match="damaged"):
        get_task(name).load(tmp_path)


def test_a_pickle_beside_fashion_mnists_files_is_not_read(tmp_path: Path, bomb: bytes) -> None:
    examples = random_examples(4, 2, (1, 28, 28))
    raw, processed = tmp_path / fashion_mnist.FOLDER, tmp_path / "FashionMNIST" / "processed"
    for folder in (raw, processed):
        folder.mkdir(parents=True)
    arrays = (examples.train_inputs[:, 0], examples.train_labels, examples.test_inputs[:, 0], examples.test_labels)
    for file, values in zip(fashion_mnist.FILES, arrays, strict=True):
        (raw / file).write_bytes(idx(values))
    for file in ("training.pt", "test.pt"):  # what old releases of torchvision left there, and new ones prefer
        (processed / file).write_bytes(bomb)

    assert len(get_task("fashion-mnist").load(tmp_path).train_labels) == 4
