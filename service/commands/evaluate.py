"""``quantrank evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore import Architecture, InvalidInput, get_task, stages_of
from qcore.devices import prepare_device, require_device
from searcher.named import DEFAULT_BIT_WIDTHS, parse_bit_widths, resolve_recipe
from service.files import usable_folder, write_output
from service.output import percent, print_json, print_recipe_changes, print_table, progress_bar
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

    from qcore import CurvePoint, Stage, StageResult


def run(arguments: Namespace) -> int:
    """Trains one architecture in float, retrains it at each of the bit widths, and prints the accuracies."""
    settings = load_settings(arguments.device)
    require_device(settings.device, arguments.threads)
    task = get_task(arguments.task, settings.data_root)
    architecture = Architecture.parse(arguments.architecture)
    architecture.layers(task)
    recipe = resolve_recipe(task, arguments.recipe, settings.data_root, settings.device)
    bit_widths = parse_bit_widths(arguments.bit_widths or DEFAULT_BIT_WIDTHS)
    if not 0 <= arguments.seed < 2**31:
        raise InvalidInput("seed", arguments.seed, "is out of range", f"use 0 to {2**31 - 1}")
    task.check(settings.data_root)
    folder = None if arguments.save is None else Path(arguments.save)
    if folder is not None:
        usable_folder(folder)

    from qcore import evaluate

    device = prepare_device(settings.device, arguments.threads)
    found: list[dict[str, Any]] = []
    broke: list[str] = []
    with progress_bar() as bar:
        epochs = sum(stage.epochs for stage in stages_of(task, architecture, recipe, arguments.seed, bit_widths))
        shown = bar.add_task(architecture.name, total=epochs)

        def on_epoch(stage: Stage, _point: CurvePoint) -> None:
            bar.update(shown, advance=1, description=f"{architecture.name} {stage.bit_widths}")

        for stage, result in evaluate(
            architecture,
            task,
            bit_widths,
            recipe=recipe,
            data_root=settings.data_root,
            seed=arguments.seed,
            device=device,
            on_epoch=on_epoch,
        ):
            if result.divergence is not None:
                broke.append(f"{stage.bit_widths} diverged: {result.divergence}")
            found.append(
                {
                    "bit_widths": str(stage.bit_widths),
                    "status": result.status,
                    "validation_accuracy": result.validation_accuracy,
                    "test_accuracy": result.test_accuracy,
                    "divergence": None if result.divergence is None else asdict(result.divergence),
                    "epochs": len(result.curve),
                    "train_seconds": round(result.train_seconds, 3),
                    "saved": None if folder is None else _saved(stage, result, folder),
                }
            )
    if arguments.json:
        print_json(
            {
                "architecture": architecture.name,
                "task": task.name,
                "recipe": recipe.name,
                "recipe_hash": recipe.hash(),
                "recipe_settings": recipe.model_dump(mode="json", exclude={"name"}),
                "seed": arguments.seed,
                "accuracies": {each["bit_widths"]: each["test_accuracy"] for each in found},
                "stages": found,
            }
        )
        return 0
    print_table(
        f"{architecture.name} on {task.name}, recipe {recipe.name}, seed {arguments.seed}",
        ["bit widths", "status", "validation %", "test %", "seconds"],
        [
            [
                each["bit_widths"],
                each["status"],
                percent(each["validation_accuracy"]),
                percent(each["test_accuracy"]),
                f"{each['train_seconds']:.1f}",
            ]
            for each in found
        ],
    )
    print_recipe_changes(recipe.name, task.recipe_changes(recipe))
    for told in broke:
        print(told)
    for each in found:
        if each["saved"]:
            print(f"saved {each['saved']}")
    return 0


def _saved(stage: Stage, result: StageResult, folder: Path) -> str | None:
    """Writes a stage's network and returns where; a diverged one is not written."""
    from qcore.export import NetworkDescription, to_safetensors

    if result.status != "done":
        return None
    description = NetworkDescription.of_stage(stage)
    path = folder / f"{description.label}_seed{stage.seed}.safetensors"
    write_output(path, to_safetensors(description, result.state))
    return str(path)
