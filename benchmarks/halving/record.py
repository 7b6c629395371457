"""Trains every candidate in full and at several rungs, from several seeds, and records what came out.

    python -m benchmarks.halving.record          # about an hour on two cores; goes on where it was interrupted

The table (``table.json``) is what searches are replayed on: ``replay.py``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

from qcore import Architecture, BitWidths, Recipe, evaluate, get_task, override, scaled_recipe
from qcore.cost import macs
from qcore.data import load_data, steps_per_epoch
from qcore.devices import prepare_device, usable_cores
from qcore.provenance import provenance
from searcher.plan import plan
from searcher.request import SearchRequest

TASK, BUDGET, BLOCKS, BIT_WIDTHS = "fashion-mnist-14", 40_000, ("basic", "preact", "depthwise"), "W2A2"
EPOCHS = {"float_part": {"schedule": {"epochs": 6}}, "retraining": {"schedule": {"epochs": 4}}}
FRACTIONS = (0.05, 0.1, 0.15, 1.0)
ROOT, TABLE = Path("datasets"), Path(__file__).parent / "table.json"


def recipe_at(fraction: float) -> Recipe:
    """The full recipe (6 + 4 epochs), or one cut short."""
    full = override(get_task(TASK).recipe("short"), EPOCHS)
    return full if fraction == 1 else scaled_recipe(full, fraction)


def train(job: tuple[str, float, int]) -> dict[str, Any]:
    """One candidate by one recipe from one seed: accuracies in percent, optimizer steps and seconds of both stages."""
    name, fraction, seed = job
    device, task, recipe = prepare_device("cpu", threads=1), get_task(TASK), recipe_at(fraction)
    stages = evaluate(
        Architecture.parse(name), task, [BitWidths.parse(BIT_WIDTHS)], recipe=recipe, data_root=ROOT, seed=seed
    )
    data = load_data(task, recipe.float_part.validation_share, ROOT, device)
    row: dict[str, Any] = {"architecture": name, "fraction": fraction, "seed": seed, "steps": 0, "seconds": 0.0}
    for stage, result in stages:
        part = recipe.float_part if stage.bit_widths.is_float else recipe.retraining
        bits = str(stage.bit_widths)
        row[bits] = {"validation": result.validation_accuracy, "test": result.test_accuracy, "status": result.status}
        row["steps"] += stage.epochs * steps_per_epoch(data, recipe.float_part, part.schedule.epoch_share)
        row["seconds"] = round(row["seconds"] + result.train_seconds, 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=usable_cores())
    parser.add_argument("--rows", type=Path, default=Path("halving-rows.jsonl"), help="finished so far")
    arguments = parser.parse_args()
    task = get_task(TASK)
    request = SearchRequest(task=TASK, parameter_budget=BUDGET, blocks=list(BLOCKS), bit_widths=[BIT_WIDTHS])
    costs = {each.name: macs(each.layers(task)) for each in plan(request).candidates}
    rows = [json.loads(line) for line in arguments.rows.read_text().splitlines()] if arguments.rows.exists() else []
    done = {(row["architecture"], row["fraction"], row["seed"]) for row in rows}
    jobs = [(name, fraction, seed) for name in costs for fraction in FRACTIONS for seed in range(arguments.seeds)]
    missing = sorted(set(jobs) - done, key=lambda job: (job[2], -costs[job[0]] * job[1]))
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool, arguments.rows.open("a") as file:
        for row in pool.imap_unordered(train, missing):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(
                f"{len(rows)} of {len(jobs)}: {row['architecture']} x{row['fraction']} seed {row['seed']}", flush=True
            )
    found = {
        "task": TASK,
        "parameter_budget": BUDGET,
        "recipe": recipe_at(1.0).model_dump(mode="json"),
        "macs": costs,
        "provenance": provenance(prepare_device("cpu", threads=1)),
        "seconds": round(time.perf_counter() - started),
        "rows": sorted(rows, key=lambda row: (row["architecture"], row["fraction"], row["seed"])),
    }
    TABLE.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(rows)} rows in {TABLE}")


if __name__ == "__main__":
    main()
