"""The estimate of a training process's memory, against processes that really train."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcore import Architecture, get_task, override
from qcore.training_memory import estimated_bytes

MOST_TOO_HIGH = 3.0

TRAINS = """
import sys, torch
from qcore import Architecture, BitWidths, get_task
from qcore.training_memory import peak_bytes
from qcore.metrics import cross_entropy
from qcore.network import Network
from qcore.devices import prepare_device
from qcore.packing import bare_step

name, task_name, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
prepare_device("cpu", 1)
task = get_task(task_name)
for bit_widths in (BitWidths(None, None), BitWidths(2, 2)):
    network = Network(Architecture.parse(name).layers(task), bit_widths, task.recipes[0].retraining.quantizers)
    network.initialize(torch.Generator().manual_seed(0))
    x = torch.randn(batch, *task.input_shape)
    if not bit_widths.is_float:
        network.start_steps()
        network.calibrate(x, task.recipes[0].retraining.quantizers.clipped_share)
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(2):
        bare_step(network.train(), optimizer, x, torch.arange(batch) % task.classes)
    with torch.no_grad():
        network.eval()(torch.randn(min(1000, max(1, 2**23 // x[0].numel())), *task.input_shape))
print(peak_bytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "batch"),
    [
        ("basic-L8-D3", "digits", 128),
        ("basic-L20-D16", "cifar10", 128),
        ("depthwise-L11-D8", "cifar10", 64),
        ("plain-L8-D512", "rings", 1024),
        ("imagenet-preact-L18-D32-B2.2.2.2", "imagenet", 8),
    ],
)
def test_a_process_takes_no_more_than_the_estimate_and_not_much_less(name: str, task: str, batch: int) -> None:
    measured = int(
        subprocess.run(
            [sys.executable, "-c", TRAINS, name, task, str(batch)], check=True, capture_output=True, text=True
        ).stdout
    )
    known = get_task(task)
    recipe = override(known.recipes[0], {"float_part": {"batch_size": batch}})
    estimate = estimated_bytes(Architecture.parse(name).layers(known), known, recipe)
    assert measured <= estimate <= MOST_TOO_HIGH * measured


@given(width=st.integers(3, 60), wider=st.integers(1, 60), batch=st.integers(2, 2000))
def test_wider_networks_and_larger_batches_take_more(width: int, wider: int, batch: int) -> None:
    task = get_task("cifar10")

    def estimate(width: int, batch: int) -> int:
        recipe = override(task.recipes[0], {"float_part": {"batch_size": batch}})
        return estimated_bytes(Architecture("basic", 8, width).layers(task), task, recipe)

    assert estimate(width, batch) < estimate(width + wider, batch)
    assert estimate(width, batch) < estimate(width, batch + 1)


def test_a_data_set_that_is_read_file_by_file_takes_no_memory() -> None:
    small, large = get_task("cifar10"), get_task("imagenet")
    with_gpu = [
        estimated_bytes(Architecture.parse("mobilenetv2-x0.5").layers(task), task, task.recipes[0], "cuda")
        for task in (small, large)
    ]
    assert with_gpu[0] == with_gpu[1] + 3 * 60_000 * 3 * 32 * 32
