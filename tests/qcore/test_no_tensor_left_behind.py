"""On a GPU no tensor stays on the CPU, and no value is read but where ``qcore.host_reads`` says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gpu import LeftBehind, fake_gpu
from pictures import write_class_folders
from torch import Tensor

from qcore import (
    Architecture,
    BitWidths,
    Network,
    Recipe,
    StageResult,
    Task,
    evaluate,
    get_task,
    host_reads,
    l2_optimal_step,
    measure_quantization,
    override,
    packing,
)
from qcore.data import Data, Split, evaluation_batches, load_data, training_batches
from qcore.levels import weight_levels
from qcore.modules import QuantizedConv2d
from qcore.proving import prove_training
from qcore.stages import stages_of
from qcore.streaming import FileSplit
from qcore.tasks import image_folder
from qcore.training import train_stage

ARCHITECTURE = Architecture.parse("basic-L8-D3")
W2A2 = BitWidths(2, 2)
LSQ = {"weight_step": "learned", "activation_step": "learned"}
ONCE = {"epochs": 1, "warmup_epochs": 0}


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    with fake_gpu() as device:
        yield device


def recipe(task: Task, **changes: Any) -> Recipe:
    """One epoch of one step, on all examples at once; but for what is given, part by part."""
    values: dict[str, Any] = {
        "float_part": {"schedule": dict(ONCE), "batch_size": 4096, "flip": True, "crop_padding": 1},
        "retraining": {"schedule": dict(ONCE), "quantizers": {}},
    }
    if task.name == "rings":
        values["float_part"] |= {"flip": False, "crop_padding": 0}
    for part, of_part in changes.items():
        for name, value in of_part.items():
            own = values[part].get(name)
            values[part][name] = own | value if isinstance(own, dict) and isinstance(value, dict) else value
    return override(task.recipe("short"), values)


def train(
    device: torch.device, name: str, task: Task, bit_widths: tuple[BitWidths, ...] = (W2A2,), **changes: Any
) -> list[StageResult]:
    """Loads data, trains, calibrates, retrains and evaluates."""
    found = evaluate(
        Architecture.parse(name),
        task,
        bit_widths,
        recipe=recipe(task, **changes),
        data_root=Path("unused"),
        device=device,
    )
    results = [result for _, result in found]
    assert [result.status for result in results] == ["done"] * (1 + len(bit_widths))
    assert {tensor.device.type for result in results for tensor in result.state.values()} == {"cpu"}
    return results


BLOCK_KINDS = ("basic-L8-D3", "preact-L8-D3", "depthwise-L11-D3", "mobilenetv2-x0.05", "residual-L4-D8")


@pytest.mark.parametrize("name", BLOCK_KINDS)
def test_every_block_kind_is_trained_whole_on_the_device(name: str, gpu: torch.device) -> None:
    train(gpu, name, task_for(name), float_part={"path": "compiled", "precision": "bf16"})


@pytest.mark.parametrize("name", [*BLOCK_KINDS[:3], pytest.param(BLOCK_KINDS[3], marks=pytest.mark.slow)])
def test_every_block_kind_is_layer_by_layer(name: str, gpu: torch.device) -> None:
    train(gpu, name, task_for(name), float_part={"path": "plain", "precision": "fp32"})


def task_for(name: str) -> Task:
    return get_task("rings" if name.startswith("residual") else "digits")


VARIANTS: dict[str, dict[str, Any]] = {
    "LSQ": {"retraining": {"quantizers": LSQ | {"weight_levels": "twos_complement"}}},
    "mid-rise, all layers, every step": {
        "retraining": {
            "quantizers": {"weight_levels": "mid_rise", "first_last_weight_bits": "same", "step_refresh": "step"}
        },
    },
    "LSQ and PACT, given clipping values, Adam": {
        "float_part": {"schedule": {"optimizer": "adam", "learning_rate": 0.01}},
        "retraining": {
            "schedule": {"optimizer": "adam", "learning_rate": 0.01},
            "quantizers": {"weight_step": "learned", "initial_clipping_value": 6.0, "shortcut_bits": None},
        },
    },
    "a rung, L_Lip and cycles": {
        "float_part": {"batch_size": 600, "schedule": {"epoch_share": 0.5}},
        "retraining": {"lipschitz_scale": 1e-4, "cyclic": {"epochs": 1, "cycle_epochs": 1}},
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "name", ["preact-L8-D3", *(pytest.param(each, marks=pytest.mark.slow) for each in BLOCK_KINDS if each[0] != "p")]
)
def test_every_variant_of_quantizers_and_recipes_is(name: str, variant: str, gpu: torch.device) -> None:
    train(gpu, name, task_for(name), **VARIANTS[variant])


def test_other_bit_widths_are(gpu: torch.device) -> None:
    others = tuple(BitWidths.parse(each) for each in ("W2AF", "WFA2", "W4A8"))
    train(gpu, "basic-L8-D3", get_task("digits"), others)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet-preact-L18-D4-B2.2.2.2", "imagenet-bottleneck-L14-D4-B1.1.1.1"])
def test_networks_with_max_pooling_are(name: str, gpu: torch.device) -> None:
    train_on_arrays(gpu, name, replace(get_task("imagenet"), input_shape=(3, 64, 64)))


@pytest.mark.slow
def test_networks_that_classify_every_pixel_are(gpu: torch.device) -> None:
    train_on_arrays(gpu, "deeplabv3-mobilenetv2-x0.05", replace(get_task("voc2012"), input_shape=(3, 33, 33)))


def train_on_arrays(device: torch.device, name: str, task: Task) -> None:
    inputs = torch.zeros(4, *task.input_shape, dtype=torch.uint8, device=device)
    per_pixel = task.input_shape[1:] if task.metric == "mIOU" else ()
    split = Split(inputs, torch.zeros(4, *per_pixel, dtype=torch.int64, device=device))
    mean, std = (torch.tensor(each, device=device).reshape(1, -1, 1, 1) for each in (task.mean, task.std))
    data, state = Data(split, split, split, mean, std, task.metric), None
    of = recipe(task, float_part={"augmentation": "crop-flip", "path": "compiled", "precision": "bf16"})
    for stage in stages_of(task, Architecture.parse(name), of, 0, (W2A2,)):
        state = train_stage(stage, data, start_state=state, device=device).state


def test_images_that_are_read_file_by_file_are(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val", "test"):
        write_class_folders(tmp_path / "images" / "shapes" / split, {"a": 4, "b": 4}, (10, 10))
    monkeypatch.setattr(image_folder, "MOST_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr("qcore.data.default_loader_processes", lambda device_type: 0)  # others would know no fake GPU
    task = get_task("images/shapes@8", tmp_path)
    for augmentation in ("crop-flip", "random-resized-crop"):
        data = load_data(task, 0.2, tmp_path, gpu)
        assert isinstance(data.train, FileSplit)
        of = recipe(task, float_part={"batch_size": 4, "augmentation": augmentation, "crop_padding": 0})
        generator = torch.Generator().manual_seed(0)
        for batches in (training_batches(data, of.float_part, generator), evaluation_batches(data, data.test)):
            assert {(x.device.type, labels.device.type) for x, labels in batches} == {("cuda", "cuda")}


def test_a_batch_in_parts_is(gpu: torch.device) -> None:
    """After memory ran out, with the state before the epoch put back."""
    task = get_task("digits")
    (of,) = stages_of(task, ARCHITECTURE, recipe(task), 0, ())
    failing = iter([torch.OutOfMemoryError("CUDA out of memory")])

    def check() -> None:
        for error in failing:
            raise error

    result = train_stage(of, digits(gpu), check=check, device=gpu)
    assert result.accumulation == 2


def test_a_run_that_breaks_is_trained_again_to_see_where(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_reads, "_number", lambda value: math.nan)
    task = get_task("digits")
    (of,) = stages_of(task, ARCHITECTURE, recipe(task), 0, ())
    assert train_stage(of, digits(gpu), device=gpu).status == "diverged"


def digits(device: torch.device) -> Data:
    return load_data(get_task("digits"), 0.1, Path("unused"), device)


def test_what_a_worker_proves_itself_with_is(gpu: torch.device) -> None:
    prove_training(gpu, "compiled")


def test_packing_is_measured_on_the_device(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone:
        def wait(self, seconds: float) -> None:
            pass

    monkeypatch.setitem(packing._in_process, "barrier", Alone())
    task = get_task("digits")
    of = recipe(task, float_part={"path": "compiled", "precision": "bf16"})
    packing._train((ARCHITECTURE, task, of, W2A2, "cuda", 1, 0.01))


@pytest.mark.parametrize("settings", [{}, LSQ])
def test_measurements_are_taken_on_the_device(settings: dict[str, Any], gpu: torch.device) -> None:
    task = get_task("digits")
    architecture = Architecture.parse("preact-L8-D3")
    quantizers = recipe(task, retraining={"quantizers": settings}).retraining.quantizers
    network = Network(architecture.layers(task), W2A2, quantizers).to(gpu)
    measure_quantization(network, network.layers, torch.zeros(4, *task.input_shape, device=gpu))


def test_step_sizes_of_more_weights_than_are_sorted_are_found_there(gpu: torch.device) -> None:
    for levels in (weight_levels("symmetric", 2), weight_levels("mid_rise", 8)):
        assert l2_optimal_step(torch.zeros(5_000_000, device=gpu), levels).device.type == "cuda"


@pytest.mark.parametrize("shape", [(), (1, 1, 1, 1)], ids=str)
def test_one_buffer_that_a_convolution_leaves_behind_is_an_error(
    shape: tuple[int, ...], gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of no dimension too, which torch itself lets pass."""
    forward = QuantizedConv2d.forward

    def with_a_buffer(self: QuantizedConv2d, inputs: Tensor) -> Tensor:
        if not hasattr(self, "left"):
            self.register_buffer("left", torch.zeros(shape))  # when the network has moved already
        return forward(self, inputs) + self.left

    monkeypatch.setattr(QuantizedConv2d, "forward", with_a_buffer)
    with pytest.raises(LeftBehind, match="meets tensors on cpu and cuda"):
        train(gpu, "basic-L8-D3", get_task("digits"))


def read_truth(output: Tensor) -> Tensor:
    return output if output.isfinite().all() else -output


READING: dict[str, Callable[[Tensor], Tensor]] = {
    "a number": lambda output: output / output.abs().max().item(),
    "a truth value": read_truth,
    "a copy": lambda output: output.cpu().to(output.device),
    "a mask's size": lambda output: output + output[output > 0].sum(),
    "a step found on the host": lambda output: output * torch.ones(()),
}


@pytest.mark.parametrize("how", READING)
def test_what_is_read_where_nobody_says_why_is_an_error(
    how: str, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = QuantizedConv2d.forward
    monkeypatch.setattr(QuantizedConv2d, "forward", lambda self, inputs: READING[how](forward(self, inputs)))
    with pytest.raises((LeftBehind, torch._subclasses.fake_tensor.DynamicOutputShapeException)):
        train(gpu, "basic-L8-D3", get_task("digits"))
