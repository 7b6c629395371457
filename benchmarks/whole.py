"""Everything around a step: the data pipeline, epochs, a whole evaluation, a whole search with one and two workers.

    python benchmarks/whole.py

One thread a run, as searches train.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from timing import Spread, interleaved

from qcore import FLOAT, Architecture, BitWidths, Stage, evaluate, get_task, override
from qcore.data import Data, Split, generator_for, load_data, steps_per_epoch, training_batches
from qcore.devices import prepare_device, usable_cores
from qcore.packing import measure_packing, packings_to_try
from qcore.training import train_stage

CPU = torch.device("cpu")
ROOT = Path("datasets")
W2A2, W2AF, WFA2 = BitWidths(2, 2), BitWidths(2, None), BitWidths(None, 2)


def _data(task_name: str, validation_share: float = 0.1) -> Data:
    """A task's data; cifar10's shapes with noise in them, for the real ones are not everywhere."""
    task = get_task(task_name)
    if task_name != "cifar10":
        return load_data(task, validation_share, ROOT, CPU)
    images = torch.randint(0, 256, (2560, *task.input_shape), dtype=torch.uint8)
    split = Split(images, torch.arange(len(images)) % task.classes)
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (task.mean, task.std))
    return Data(split, Split(images[:0], split.labels[:0]), split, mean, std)


def pipeline_shares() -> dict[str, Any]:
    """Time of an epoch's batches alone, over that of the epoch: float training, which is the fastest there is."""
    found = {}
    for task_name, architecture in (
        ("digits", "basic-L8-D8"),
        ("fashion-mnist-14", "basic-L8-D8"),
        ("cifar10", "basic-L8-D8"),
    ):
        data, task = _data(task_name), get_task(task_name)
        one = override(task.recipe("short"), {"float_part": {"schedule": {"epochs": 1, "warmup_epochs": 0}}})
        if task_name == "cifar10":
            one = override(one, {"float_part": {"validation_share": 0.0}})
        stage = Stage(task, Architecture.parse(architecture), one, 0)
        times = interleaved(
            {
                "batches": lambda data=data, one=one: deque(
                    training_batches(data, one.float_part, generator_for(0)), maxlen=0
                ),
                "epoch": lambda stage=stage, data=data: train_stage(stage, data),
            },
            rounds=5,
            warm_up=1,
        )
        share = Spread.of([100 * each for each in _ratios(times["batches"].milliseconds, times["epoch"].milliseconds)])
        print(f"data pipeline on {task_name}, {architecture}: {share} % of an epoch with its measurement")
        found[task_name] = asdict(share)
    return found


def _ratios(ones: tuple[float, ...], others: tuple[float, ...]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


def epochs_a_minute() -> dict[str, float]:
    data, task, found = _data("fashion-mnist-14"), get_task("fashion-mnist-14"), {}
    for name in ("basic-L20-D6", "preact-L20-D6", "depthwise-L20-D8"):
        one = override(
            task.recipe("short"), {"float_part": {"schedule": {"epochs": 2}}, "retraining": {"schedule": {"epochs": 2}}}
        )
        start = train_stage(Stage(task, Architecture.parse(name), one, 0), data)
        for bit_widths, result in (
            (FLOAT, start),
            (W2A2, train_stage(Stage(task, Architecture.parse(name), one, 0, W2A2), data, start_state=start.state)),
        ):
            found[f"{name} {bit_widths}"] = 60 * len(result.curve) / result.train_seconds
            steps = steps_per_epoch(data, one.float_part)
            print(f"{name} {bit_widths}: {found[f'{name} {bit_widths}']:.1f} epochs a minute ({steps} steps each)")
    return found


def evaluation(rounds: int = 3) -> dict[str, Any]:
    """Float, W2AF, WFA2 and W2A2 of one network (6 + 3 x 4 epochs), over 18 epochs of float training alone."""
    task = get_task("fashion-mnist-14")

    def run(float_epochs: int, bit_widths: list[BitWidths]) -> None:
        schedules = [{"schedule": {"epochs": epochs}} for epochs in (float_epochs, 4)]
        recipe = override(task.recipe("short"), {"float_part": schedules[0], "retraining": schedules[1]})
        deque(evaluate(Architecture.parse("basic-L20-D6"), task, bit_widths, recipe=recipe, data_root=ROOT), maxlen=0)

    times = interleaved(
        {"evaluation": lambda: run(6, [W2AF, WFA2, W2A2]), "float alone": lambda: run(18, [])}, rounds, warm_up=0
    )
    ratio = times["evaluation"].ratio_to(times["float alone"])
    print(f"evaluation of basic-L20-D6 {times['evaluation'].median / 1000:.0f} s; over as many float epochs: {ratio}")
    return {"seconds": times["evaluation"].median / 1000, "to_float_alone": asdict(ratio)}


def search(rounds: int = 3) -> dict[str, Any]:
    """A search on digits, six candidates, by one worker with all cores, one with one, and one worker a core."""
    cores = usable_cores()
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for workers, threads in dict.fromkeys([(1, 1), (1, cores), (cores, 1)]):
            with tempfile.TemporaryDirectory() as home:
                seconds = _search_seconds(home, workers, threads)
            found.setdefault(f"{workers} workers of {threads} threads", []).append(seconds)
    for name, seconds in found.items():
        print(f"search by {name}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
    return found


def _search_seconds(home: str, workers: int, threads: int) -> float:
    command = [sys.executable, "-m", "service"]
    environment = {**os.environ, "QUANTRANK_HOME": home}
    serve = [*command, "serve", "--port", "0", "--workers", str(workers), "--threads", str(threads)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(serve, env=environment, **quiet | {"stdout": subprocess.PIPE}, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        space = ["--task", "digits", "--parameter-budget", "10000", "--blocks", "basic,preact", "--depths", "8,14,20"]
        started = time.perf_counter()
        search = [*command, "search", *space, "--bit-widths", "W2A2", "--watch", "--url", url]
        subprocess.run(search, env=environment, check=True, **quiet)
        seconds = time.perf_counter() - started
        server.terminate()
    return seconds


def packings() -> list[dict[str, Any]]:
    task, found = get_task("fashion-mnist-14"), []
    for workers, threads in packings_to_try("cpu"):
        each = measure_packing(
            Architecture.parse("basic-L20-D6"), task, task.recipe("short"), W2A2, workers, threads=threads, seconds=10
        )
        print(f"{workers} workers of {threads} threads: {each.steps_per_second:.1f} steps a second together")
        found.append(asdict(each))
    return found


def measured() -> dict[str, Any]:
    prepare_device("cpu", threads=1)
    return {
        "pipeline_percent": pipeline_shares(),
        "epochs_a_minute": epochs_a_minute(),
        "evaluation": evaluation(),
        "packings": packings(),
        "search_seconds": search(),
    }


if __name__ == "__main__":
    measured()
