"""Starting from a user's float network: found below the data root, known by its hash, of the right architecture."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from qcore import FLOAT, Architecture, BitWidths, InvalidInput, Network, Recipe, evaluate, get_task, override
from qcore.recipe import Checkpoint, QuantizerSettings
from qcore.stages import stages_of
from qcore.starting_network import load_starting_network, resolve_checkpoint

TASK, ARCHITECTURE = get_task("digits"), Architecture("basic", 8, 3)
PATH = "networks/mine.safetensors"


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, torch.Tensor]:
    network = Network(ARCHITECTURE.layers(TASK))
    network.initialize(torch.Generator().manual_seed(3))
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    (tmp_path / "networks").mkdir()
    save_file(state, tmp_path / PATH)
    return state


def recipe(**checkpoint: Any) -> Recipe:
    short = {"schedule": {"epochs": 1, "warmup_epochs": 0}}
    changes = {"float_part": {**short, "checkpoint": {"path": PATH, **checkpoint}}, "retraining": short}
    return override(TASK.recipe("short"), changes)


def test_a_network_is_taken_as_it_is_and_retrained(saved: dict[str, torch.Tensor], tmp_path: Path) -> None:
    stages = evaluate(ARCHITECTURE, TASK, [BitWidths(2, 2)], recipe=recipe(), data_root=tmp_path)
    (of_float, taken), (_, retrained) = stages
    assert of_float.bit_widths == FLOAT
    assert taken.curve == ()
    assert all(torch.equal(taken.state[name], tensor) for name, tensor in saved.items())
    assert len(retrained.curve) == 1
    assert not torch.equal(retrained.state["stem_conv.weight"], saved["stem_conv.weight"])


def test_a_network_can_be_trained_further_first(saved: dict[str, torch.Tensor], tmp_path: Path) -> None:
    ((_, tuned),) = evaluate(ARCHITECTURE, TASK, [], recipe=recipe(fine_tune=True), data_root=tmp_path)
    assert len(tuned.curve) == 1
    assert not torch.equal(tuned.state["stem_conv.weight"], saved["stem_conv.weight"])


@pytest.mark.usefixtures("saved")
def test_the_files_content_says_which_network_a_stage_starts_from(tmp_path: Path) -> None:
    def key(of: Recipe) -> str:
        return stages_of(TASK, ARCHITECTURE, resolve_checkpoint(of, tmp_path), 0, ())[0].key

    content = (tmp_path / PATH).read_bytes()
    resolved = resolve_checkpoint(recipe(), tmp_path).float_part.checkpoint
    assert resolved == Checkpoint(path=PATH, sha256=hashlib.sha256(content).hexdigest())
    before = key(recipe())
    save_file({"other": torch.zeros(1)}, tmp_path / PATH)
    assert key(recipe()) != before
    with pytest.raises(InvalidInput) as raised:
        resolve_checkpoint(recipe(sha256=resolved.sha256), tmp_path)
    assert raised.value.field == "recipe.float_part.checkpoint.sha256"
    plain = TASK.recipe("short")
    assert resolve_checkpoint(plain, tmp_path) is plain


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("missing.safetensors", "cannot be read"),
        ("networks", "is no .safetensors file"),
        ("mine.pth", "is no .safetensors file.*run code.*save_file"),
        ("folder.safetensors", "cannot be read"),
        ("../outside.safetensors", "leads to no place below the data root"),
        ("/etc/hostname", "leads to no place below the data root"),
        ("loop.safetensors", "leads to no place below the data root"),
        ("null\0.safetensors", "leads to no place below the data root"),
        ("link.safetensors", "leads to no place below the data root"),
    ],
)
@pytest.mark.usefixtures("saved")
def test_a_file_that_is_not_there_or_not_below_the_data_root_is_refused(
    path: str, problem: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "networks").mkdir(parents=True)
    (root / "folder.safetensors").mkdir()
    (tmp_path / "outside.safetensors").write_bytes(b"")
    (root / "link.safetensors").symlink_to(tmp_path / PATH)
    (root / "loop.safetensors").symlink_to("loop.safetensors")
    with pytest.raises(InvalidInput, match=problem) as raised:
        resolve_checkpoint(recipe(path=path), root)
    assert (raised.value.field, raised.value.value) == ("recipe.float_part.checkpoint.path", path)


@pytest.mark.parametrize("name", ["stem_conv.weight", "classifier.bias"])
def test_tensors_of_another_network_are_refused_by_name(
    name: str, saved: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    checkpoint = Checkpoint(path=PATH)
    for changed in (
        {key: tensor for key, tensor in saved.items() if key != name},
        saved | {name: torch.zeros(5)},
        saved | {f"{name}.more": torch.zeros(5)},
    ):
        save_file(changed, tmp_path / PATH)
        with pytest.raises(InvalidInput, match=name) as raised:
            load_starting_network(ARCHITECTURE, TASK, checkpoint, tmp_path)
        assert raised.value.field == "recipe.float_part.checkpoint.path"


@pytest.mark.parametrize("step", ["pact", "learned"])
@pytest.mark.parametrize("bits", ["W2A2", "W2AF", "WFA2"])
def test_a_quantized_network_is_refused_as_one(bits: str, step: str, tmp_path: Path) -> None:
    settings = QuantizerSettings.model_validate({"activation_step": step})
    network = Network(ARCHITECTURE.layers(TASK), BitWidths.parse(bits), settings)
    save_file(network.state_dict(), tmp_path / "quantized.safetensors")
    checkpoint = Checkpoint(path="quantized.safetensors")
    with pytest.raises(InvalidInput, match=r"is a quantized network; give the float network") as raised:
        load_starting_network(ARCHITECTURE, TASK, checkpoint, tmp_path)
    assert raised.value.field == "recipe.float_part.checkpoint.path"


def test_pickles_are_refused_unread(saved: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(saved, tmp_path / PATH)
    with pytest.raises(InvalidInput, match=r"is no safetensors file.*save_file"):
        load_starting_network(ARCHITECTURE, TASK, Checkpoint(path=PATH), tmp_path)


def test_torchvisions_names_are_understood_and_its_classifier_may_be_of_other_classes(tmp_path: Path) -> None:
    architecture = Architecture.parse("mobilenetv2-x0.1")
    task = replace(TASK, input_shape=(3, 16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
    state = torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=7).state_dict()
    save_file(state, tmp_path / "theirs.safetensors")
    found = load_starting_network(architecture, task, Checkpoint(path="theirs.safetensors", fine_tune=True), tmp_path)
    assert torch.equal(found["stem_conv.weight"], state["features.0.0.weight"])
    assert not any(name.startswith("classifier") for name in found)
    with pytest.raises(InvalidInput, match="leaves classifier as random") as raised:
        load_starting_network(architecture, task, Checkpoint(path="theirs.safetensors"), tmp_path)
    assert raised.value.field == "recipe.float_part.checkpoint.fine_tune"
    whole = replace(task, classes=7)
    assert "classifier.weight" in load_starting_network(
        architecture, whole, Checkpoint(path="theirs.safetensors"), tmp_path
    )


def test_a_network_that_is_not_finite_is_refused(saved: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(saved | {"stem_bn.bias": torch.full((3,), torch.nan)}, tmp_path / PATH)
    with pytest.raises(InvalidInput, match=r"stem_bn\.bias that are not finite"):
        load_starting_network(ARCHITECTURE, TASK, Checkpoint(path=PATH), tmp_path)
