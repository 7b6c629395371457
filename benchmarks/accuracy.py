"""Whether precision and path change what networks learn: pairs of runs from the same seeds, layer by layer in fp32
against the automatic choice and others; differences of test accuracy with 90 % intervals.

    python benchmarks/accuracy.py --output accuracy.json

Runs that the output file holds already are not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qcore import Architecture, BitWidths, evaluate, get_task, override
from qcore.devices import prepare_device, usable_cores
from qcore.numerics import resolve_numerics
from qcore.provenance import provenance
from qcore.statistics import t_quantile

PLAIN = ("fp32", "plain")
CONFIDENCE = 0.90


@dataclass(frozen=True)
class Comparison:
    """One network on one task, by several settings of precision and path; the first is what others are held to."""

    task: str
    architecture: str
    epochs: tuple[int, int]
    seeds: int
    modes: tuple[tuple[str, str], ...]


COMPARISONS = (
    Comparison("fashion-mnist-14", "basic-L20-D6", (6, 3), 10, (PLAIN, ("bf16", "fused"))),
    Comparison("fashion-mnist-14", "depthwise-L11-D8", (6, 3), 12, (PLAIN, ("bf16", "fused"))),
    Comparison("digits", "basic-L8-D11", (20, 12), 40, (PLAIN, ("fp32", "fused"), ("bf16", "fused"))),
)


def train(job: tuple[Comparison, int, tuple[str, str]]) -> dict[str, Any]:
    comparison, seed, (precision, path) = job
    device = prepare_device("cpu", threads=1)
    task = get_task(comparison.task)
    schedules = [{"schedule": {"epochs": epochs, "warmup_epochs": 1}} for epochs in comparison.epochs]
    changes = {"float_part": {**schedules[0], "precision": precision, "path": path}, "retraining": schedules[1]}
    stages = evaluate(
        Architecture.parse(comparison.architecture),
        task,
        [BitWidths(2, 2)],
        recipe=override(task.recipe("short"), changes),
        data_root=Path("datasets"),
        seed=seed,
        device=device,
    )
    accuracies = {str(stage.bit_widths): result.test_accuracy for stage, result in stages}
    return {**identity(job), "accuracies": accuracies, "provenance": provenance(device)}


def identity(job: tuple[Comparison, int, tuple[str, str]]) -> dict[str, Any]:
    comparison, seed, mode = job
    settings = {name: value for name, value in asdict(comparison).items() if name not in ("modes", "seeds")}
    return {**json.loads(json.dumps(settings)), "seed": seed, "mode": list(mode)}


def interval(differences: list[float]) -> str:
    count = len(differences)
    reach = t_quantile(0.5 + CONFIDENCE / 2, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return f"{statistics.mean(differences):+.2f} ± {reach:.2f}"


def report(runs: list[dict[str, Any]]) -> None:
    print("| task | network | setting | seeds | float | W2A2 | difference, float | difference, W2A2 |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for comparison in COMPARISONS:
        task = get_task(comparison.task)
        chosen = resolve_numerics(task.recipe("short"), task, "cpu").float_part
        by_mode: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
        for mode in comparison.modes:
            for seed in range(comparison.seeds):
                found = next((run for run in runs if identity((comparison, seed, mode)).items() <= run.items()), None)
                if found is not None:
                    by_mode.setdefault(mode, {})[seed] = found["accuracies"]
        for mode, found in by_mode.items():
            shared = sorted(found.keys() & by_mode[PLAIN].keys())
            means = [f"{statistics.mean(found[seed][bits] for seed in shared):.2f}" for bits in ("float", "W2A2")]
            apart = ["–", "–"]
            if mode != PLAIN and len(shared) > 1:
                apart = [
                    interval([found[seed][bits] - by_mode[PLAIN][seed][bits] for seed in shared])
                    for bits in ("float", "W2A2")
                ]
            name = " ".join(mode) + (" (auto)" if mode == (chosen.precision, chosen.path) else "")
            row = [comparison.task, comparison.architecture, name, str(len(shared)), *means, *apart]
            print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/accuracy.json"))
    parser.add_argument("--workers", type=int, default=usable_cores())
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    runs = json.loads(arguments.output.read_text()) if arguments.output.exists() else []
    jobs = [
        (comparison, seed, mode)
        for comparison in COMPARISONS
        for seed in range(comparison.seeds)
        for mode in comparison.modes
    ]
    open_jobs = [job for job in jobs if not any(identity(job).items() <= run.items() for run in runs)]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for run in pool.imap_unordered(train, open_jobs):
            runs.append(run)
            arguments.output.write_text("[\n" + ",\n".join(map(json.dumps, runs)) + "\n]\n")
    report(runs)


if __name__ == "__main__":
    main()
