"""Training on a GPU. Every test here is marked gpu and skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qcore import Architecture, BitWidths, evaluate, get_task, override
from qcore.devices import prepare_device

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

SHORT = {"float_part": {"schedule": {"epochs": 3}}, "retraining": {"schedule": {"epochs": 2}}}


def accuracies(device: str) -> list[float | None]:
    task = get_task("digits")
    results = evaluate(
        Architecture.parse("basic-L8-D8"),
        task,
        [BitWidths(2, 2)],
        recipe=override(task.recipe("short"), SHORT),
        data_root=Path("unused"),
        device=prepare_device(device, threads=1),
    )
    return [result.test_accuracy for _, result in results]


def test_training_on_a_gpu_is_deterministic() -> None:
    assert accuracies("cuda") == accuracies("cuda")


def test_training_on_a_gpu_agrees_with_the_cpu() -> None:
    assert accuracies("cuda")[0] == pytest.approx(accuracies("cpu")[0], abs=3)


def test_compiled_kernels_on_a_gpu_agree_with_the_formulas() -> None:
    from qcore.kernels import kernels_of
    from qcore.kernels.native import agree_with_formulas

    kernels = kernels_of("compiled")
    assert kernels is not None
    with torch.device("cuda"):
        assert agree_with_formulas(kernels)
