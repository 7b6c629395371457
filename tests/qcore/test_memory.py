"""Training that memory does not suffice for: batches in parts, to the same result where batches are not normalized."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qcore import FLOAT, Architecture, BitWidths, Recipe, Stage, StageResult, evaluate, get_task, override
from qcore.checkpoints import CheckpointFile, read_checkpoint, write_checkpoint
from qcore.data import Data, load_data
from qcore.memory import is_out_of_memory
from qcore.network import Network
from qcore.tasks.task import IGNORED
from qcore.training import Interrupted, _accumulate_gradients, train_stage

CPU = torch.device("cpu")
OUT_OF_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
)


def recipe(batch_size: int = 64, **retraining: Any) -> Recipe:
    schedule = {"epochs": 3, "warmup_epochs": 0, "optimizer": "sgd", "learning_rate": 0.1}
    changes = {"float_part": {"schedule": schedule, "batch_size": batch_size}, "retraining": {**retraining}}
    return override(get_task("digits").recipe("short"), changes)


def stage(bit_widths: BitWidths = FLOAT, batch_size: int = 64) -> Stage:
    return Stage(get_task("digits"), Architecture.parse("basic-L8-D3"), recipe(batch_size), 0, bit_widths)


@cache
def data() -> Data:
    return load_data(get_task("digits"), 0.2, Path("unused"), CPU)


def run_out_above(examples: int, monkeypatch: pytest.MonkeyPatch, from_pass: int = 0) -> list[int]:
    """Lets training passes of more examples fail as torch's allocator does; notes the sizes of all."""
    forward = Network.forward
    sizes: list[int] = []

    def limited(self: Network, x: Tensor) -> Tensor:
        if self.training:
            sizes.append(len(x))
            if len(x) > examples and len(sizes) > from_pass:
                forward(self, x)  # it fails after the running statistics have changed
                raise RuntimeError(OUT_OF_MEMORY)
        return forward(self, x)

    monkeypatch.setattr(Network, "forward", limited)
    return sizes


def assert_equal(one: StageResult, other: StageResult) -> None:
    assert replace(one, state={}, train_seconds=0.0) == replace(other, state={}, train_seconds=0.0)
    for name, tensor in one.state.items():
        assert torch.equal(tensor, other.state[name]), name


@settings(max_examples=60, deadline=None)
@given(
    examples=st.integers(1, 40),
    parts=st.sampled_from([2, 4, 8, 16]),
    bit_widths=st.sampled_from([FLOAT, BitWidths(2, None)]),
    lipschitz_scale=st.sampled_from([0.0, 0.01]),
    ignored=st.integers(0, 39),
    seed=st.integers(0, 2**32),
)
def test_gradients_of_parts_add_up_to_those_of_the_batch_where_it_is_not_normalized(
    examples: int, parts: int, bit_widths: BitWidths, lipschitz_scale: float, ignored: int, seed: int
) -> None:
    used = override(get_task("rings").recipe("short"), {"retraining": {"lipschitz_scale": lipschitz_scale}})
    of = Stage(get_task("rings"), Architecture.parse("plain-L4-D16"), used, 0, bit_widths)
    generator = torch.Generator().manual_seed(seed)
    network = Network(of.architecture.layers(of.task), bit_widths, used.retraining.quantizers).train()
    network.initialize(generator)
    if not bit_widths.is_float:
        network.start_steps()
    x = torch.randn(examples, 2, 1, 1, generator=generator)
    labels = torch.randint(0, 2, (examples,), generator=generator)
    if examples > 1:
        labels[ignored % examples] = IGNORED

    def gradients(parts: int) -> tuple[Tensor, list[Tensor]]:
        network.zero_grad(set_to_none=True)
        loss = _accumulate_gradients(of, network, x, labels, parts)
        return loss, [each.grad for each in network.parameters() if each.grad is not None]

    whole_loss, whole = gradients(1)
    loss, accumulated = gradients(min(parts, examples))
    torch.testing.assert_close(loss, whole_loss, rtol=1e-5, atol=1e-6)
    assert len(accumulated) == len(whole) > 0
    for one, other in zip(accumulated, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("fits", "parts"), [(64, 1), (63, 2), (16, 4), (4, 16)])
def test_batches_are_halved_until_they_fit_and_the_result_says_so(
    fits: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = run_out_above(fits, monkeypatch)
    result = train_stage(stage(), data())
    assert (result.status, result.accumulation) == ("done", parts)
    assert result.variant == ({} if parts == 1 else {"accumulation": parts})
    assert len(result.curve) == 3
    failed = [64 // 2**index for index in range(parts.bit_length() - 1)]
    assert sizes == failed + [64 // parts] * (3 * 17 * parts)  # 1,150 examples make 17 batches


def test_the_epoch_is_trained_again_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        train_stage(stage(), data(), checkpoint=CheckpointFile(tmp_path / "first epoch"), keep_going=lambda: False)
    sizes = run_out_above(32, monkeypatch, from_pass=20)
    late = train_stage(stage(), data())
    assert sizes[:22] == [64] * 21 + [32]  # 17 passes of the first epoch, 4 of the second
    saved = read_checkpoint(CheckpointFile(tmp_path / "first epoch"))
    assert saved is not None
    write_checkpoint(CheckpointFile(tmp_path / "in parts"), saved[0], saved[1] | {"accumulation": 2})
    assert_equal(train_stage(stage(), data(), checkpoint=CheckpointFile(tmp_path / "in parts")), late)


def test_a_run_that_is_taken_up_again_goes_on_in_as_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out_above(16, monkeypatch)
    uninterrupted = train_stage(stage(), data())
    with pytest.raises(Interrupted):
        train_stage(stage(), data(), checkpoint=CheckpointFile(tmp_path / "checkpoint"), keep_going=lambda: False)
    monkeypatch.undo()  # elsewhere, where there is memory enough
    assert_equal(train_stage(stage(), data(), checkpoint=CheckpointFile(tmp_path / "checkpoint")), uninterrupted)
    saved = read_checkpoint(CheckpointFile(tmp_path / "checkpoint"))
    assert saved is not None
    assert saved[1]["accumulation"] == 4


@pytest.mark.parametrize(("batch_size", "tried"), [(64, [64, 32, 16, 8, 4]), (8, [8, 4, 2]), (3, [3])])
def test_what_fits_in_no_number_of_parts_is_an_error(
    batch_size: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = run_out_above(0, monkeypatch)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        train_stage(stage(batch_size=batch_size), data())
    assert sizes == tried


def test_another_error_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(self: Network, x: Tensor) -> Tensor:
        calls.append(len(x))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Network, "forward", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        train_stage(stage(), data())
    assert calls == [64]


def test_quantized_retraining_is_divided_too(monkeypatch: pytest.MonkeyPatch) -> None:
    start = train_stage(stage(), data()).state
    run_out_above(32, monkeypatch)
    result = train_stage(stage(BitWidths(2, 2)), data(), start_state=start)
    assert (result.status, result.accumulation) == ("done", 2)
    assert result.validation_accuracy is not None
    assert result.validation_accuracy > 30.0


def test_what_torch_raises_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(ValueError(OUT_OF_MEMORY))


LIMITED = """
import resource, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from qcore import FLOAT, Architecture, Stage, get_task, override, train_stage
from qcore.data import load_data
from qcore.tasks import Examples

def train(count):
    def load(_):
        x = np.random.default_rng(0).standard_normal((count, 2, 1, 1), dtype=np.float32)
        labels = (x[:, 0, 0, 0] > 0).astype(np.int64)
        return Examples(x, labels, x[:16], labels[:16])

    task = replace(get_task("rings"), train_examples=count, test_examples=16, load=load)
    schedule = {"epochs": 1, "warmup_epochs": 0}
    recipe = override(task.recipe("short"), {"float_part": {"schedule": schedule, "validation_share": 0.0}})
    whole = recipe.float_part.model_copy(update={"batch_size": count})
    recipe = recipe.model_copy(update={"float_part": whole})
    stage = Stage(task, Architecture.parse("plain-L4-D32"), recipe, 0, FLOAT)
    return train_stage(stage, load_data(task, 0.0, Path("unused"), torch.device("cpu")))

torch.set_num_threads(1)
train(64)  # what is loaded once is loaded
# Activations of 64 MB each: nine of them do not fit, half of each do, or a quarter.
used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 250 * 2**20,) * 2)
result = train(2**19)
print(result.status, result.accumulation)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory is used is known on Linux only")
def test_a_process_that_gets_no_more_memory_trains_in_parts() -> None:
    ended = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr[-500:]
    status, parts = ended.stdout.split()
    assert status == "done"
    assert int(parts) in (2, 4, 8)


@pytest.mark.parametrize("failing", [True, False])
def test_an_evaluation_goes_on_from_what_was_trained_in_parts(failing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if failing:
        run_out_above(32, monkeypatch)
    found = evaluate(
        Architecture.parse("basic-L8-D3"),
        get_task("digits"),
        [BitWidths(2, 2)],
        recipe=recipe(),
        data_root=Path("unused"),
    )
    assert [result.accumulation for _, result in found] == [1 + failing] * 2
