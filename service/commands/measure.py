"""``quantrank measure``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from qcore import InvalidInput, get_task
from qcore.devices import check_device_name
from service.output import percent, print_json, print_table
from service.settings import load_settings
from service.trained_networks import find_trained_network

if TYPE_CHECKING:
    from argparse import Namespace

    from qcore.measurements import Measurements

MOST_EXAMPLES = 1000
_NONE = "–"


def run(arguments: Namespace) -> int:
    """Measures what quantization does inside a trained network, on test images of its task."""
    if not 1 <= arguments.examples <= MOST_EXAMPLES:
        raise InvalidInput("examples", arguments.examples, "is out of range", f"use 1 to {MOST_EXAMPLES}")
    check_device_name("cpu", arguments.threads)
    trained = find_trained_network(arguments.evaluation, arguments.bit_widths, arguments.stage)
    description = trained.description
    if description.bit_widths.is_float:
        problem = "is the float network, which quantizes nothing"
        raise InvalidInput("bit_widths", "float", problem, "choose others, e.g. --bit-widths W2A2")
    settings = load_settings()
    task = get_task(description.task, settings.data_root)
    task.check(settings.data_root)

    import torch

    from qcore.data import evaluation_batches, load_data
    from qcore.export.network_file import to_network
    from qcore.measurements import measure_quantization

    torch.set_num_threads(arguments.threads)
    data = load_data(task, 0.0, settings.data_root, torch.device("cpu"))
    x, _ = next(iter(evaluation_batches(data, data.test)))
    x = x[: arguments.examples]
    measured = measure_quantization(to_network(trained), description.layers, x)
    if arguments.json:
        about = {"architecture": description.architecture, "task": task.name, "bit_widths": str(description.bit_widths)}
        print_json({**about, "examples": len(x), **asdict(measured)})
    else:
        print(f"{description.architecture} at {description.bit_widths}, {len(x)} test examples of {task.name}")
        _print(measured)
    return 0


def _print(measured: Measurements) -> None:
    if measured.weights:
        rows = [
            [each.layer, _decibels(each.sqnr_db), _short(each.step_size), _codes(each.distribution.dead_codes)]
            for each in measured.weights
        ]
        print_table("Weights", ["layer", "SQNR dB", "step size", "dead codes"], rows)
    if measured.activations:
        rows = [
            [
                each.layer,
                _decibels(each.sqnr_db),
                _short(each.clipping_value),
                percent(100 * each.clipped_share),
                _codes(each.distribution.dead_codes),
            ]
            for each in measured.activations
        ]
        print_table("Activations", ["layer", "SQNR dB", "clipping value", "clipped %", "dead codes"], rows)
        rows = [
            [
                each.layer,
                _short(each.input_noise_ratio),
                _short(each.output_noise_ratio),
                _NONE if each.noise_gain is None else _short(each.noise_gain),
            ]
            for each in measured.noise
        ]
        print_table(
            "Activation noise through weight layers, after batch normalization",
            ["layer", "noise/signal in", "noise/signal out", "gain"],
            rows,
        )


def _decibels(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _codes(codes: tuple[int, ...]) -> str:
    return (
        _NONE
        if not codes
        else f"{len(codes)}: {codes[0]} to {codes[-1]}"
        if len(codes) > 3
        else ", ".join(map(str, codes))
    )
