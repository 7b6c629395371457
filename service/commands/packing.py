"""``quantrank packing``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import Architecture, BitWidths, InvalidInput, get_task
from qcore.devices import require_device
from qcore.memory import device_bytes
from searcher.named import resolve_recipe
from service.output import print_json, print_table
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

_MOST_SECONDS = 600


def run(arguments: Namespace) -> int:
    """Measures how many workers, of how many threads, train most on this machine, and says how to serve so."""
    settings = load_settings(arguments.device)
    require_device(settings.device, 1)
    if not 0 < arguments.seconds <= _MOST_SECONDS:
        raise InvalidInput("seconds", arguments.seconds, "is out of range", f"use more than 0, at most {_MOST_SECONDS}")
    task = get_task(arguments.task, settings.data_root)
    architecture = Architecture.parse(arguments.architecture)
    architecture.layers(task)
    recipe = resolve_recipe(task, arguments.recipe, settings.data_root, settings.device)

    from qcore.packing import best_packing, measure_packing, packings_to_try

    found = [
        measure_packing(
            architecture,
            task,
            recipe,
            BitWidths(2, 2),
            workers,
            device=settings.device,
            threads=threads,
            seconds=arguments.seconds,
        )
        for workers, threads in packings_to_try(settings.device)
    ]
    best = best_packing(found, device_bytes(settings.device))
    command = f"quantrank serve --workers {best.workers} --threads {best.threads} --device {settings.device}"
    on_ray = f"quantrank ray --address auto --threads {best.threads} --device {settings.device}"
    if settings.device != "cpu":
        on_ray += f" --gpus-per-trial {best.fraction:.3g}"
    if arguments.json:
        commands = {"command": command, "ray_command": on_ray}
        print_json({"packings": [asdict(each) for each in found], "best": asdict(best), **commands})
        return 0
    print_table(
        f"Training {architecture.name} on {task.name} at W2A2, {settings.device}",
        ["workers", "threads each", "steps a second, together", "peak MB each"],
        [
            [str(each.workers), str(each.threads), f"{each.steps_per_second:.2f}", f"{each.peak_bytes / 1e6:.0f}"]
            for each in found
        ],
    )
    print(f"Most is trained by: {command}")
    print(f"On a Ray cluster of such machines: {on_ray}")
    return 0
