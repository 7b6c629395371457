"""Training steps: float and W2A2, in fp32 and bf16, layer by layer and fused, beside Brevitas and FakeQuantize.

    python benchmarks/steps.py [--networks basic-L20-D16,...] [--compiled]

Batch 128 of 32x32 color images; a step is forward, loss, backward and update, without data and measurements. Memory is
the peak of a step over what stands before it, in a process of its own. Peers run with our setting of the C library that
keeps memory from step to step: it makes them faster too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers
import torch
from timing import Spread, Times, interleaved
from torch import nn
from torch._inductor.utils import fresh_cache

from qcore import FLOAT, Architecture, BitWidths, Network, get_task
from qcore.devices import prepare_device, usable_cores
from qcore.kernels import kernels_of
from qcore.packing import bare_step

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = ("basic-L20-D16", "preact-L20-D16", "depthwise-L20-D16", "mobilenetv2-x0.5")
BATCH, CLASSES = 128, 10
OURS = tuple(
    f"{bits} {precision} {path}"
    for bits in ("float", "W2A2")
    for precision in ("fp32", "bf16")
    for path in ("plain", "fused")
)
PEERS = tuple(f"{peer} {precision} plain" for peer in ("brevitas", "fakequantize") for precision in ("fp32", "bf16"))
COMPILED = ("float bf16 compiled-model", "W2A2 bf16 compiled-model", "fakequantize bf16 compiled-model")
AUTO = "bf16 fused"


def step_of(name: str, mode: str, device: torch.device, size: int = 32) -> Callable[[], None]:
    """One training step of a network: its own kind, precision and path."""
    kind, precision, path = mode.split()
    task = get_task("cifar10" if size == 32 else "fashion-mnist-14")
    layers = Architecture.parse(name).layers(task)
    x = torch.randn(BATCH, *task.input_shape, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(BATCH, device=device) % CLASSES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _network(kind, layers, x.cpu()).to(device).train()
    if isinstance(network, Network):
        network.fuse(kernels_of(path) if path in ("fused", "compiled") else None)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)
    run: Any = torch.compile(network) if path == "compiled-model" else network

    def step() -> None:
        bare_step(run, optimizer, x, labels, bf16=precision == "bf16")
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _network(kind: str, layers: Any, x: torch.Tensor) -> nn.Module:
    w2a2 = BitWidths(2, 2)
    if kind == "brevitas":
        return peers.brevitas_network(layers, w2a2)
    if kind == "fakequantize":
        return peers.fake_quantize_network(layers, w2a2)
    network = Network(layers, FLOAT if kind == "float" else w2a2)
    network.initialize(torch.Generator().manual_seed(0))
    if kind != "float":
        network.start_steps()
        network.calibrate(x, 0.02)
    return network


def peak_bytes(name: str, mode: str) -> int:
    """Peak memory of a step over what stands before it, by Linux's own count, in a new process."""
    command = [sys.executable, __file__, "--memory-of", name, mode]
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()[-1])


def _print_peak(name: str, mode: str) -> None:
    torch.set_num_threads(1)
    step = step_of(name, mode, torch.device("cpu"))
    step()  # gradients and momentum stand from here on
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    step()
    print(_resident("VmHWM") - before)


def _resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def compiled_model(name: str, mode: str) -> dict[str, float]:
    """A whole model through torch.compile, beside our automatic W2A2, in a new process: compiled models share what
    dynamo knows of their code, and slow each other down.
    """
    command = [sys.executable, __file__, "--compiled-alone", name, mode]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))


def _print_compiled(name: str, mode: str, device: torch.device, rounds: int) -> None:
    torch._dynamo.config.recompile_limit = 256  # so that it is compiled in every part it can be
    step = step_of(name, mode, device)
    started = time.perf_counter()
    with fresh_cache():
        step()
    seconds = time.perf_counter() - started
    times = interleaved({"compiled": step, "ours": step_of(name, f"W2A2 {AUTO}", device)}, rounds)
    to_ours = times["compiled"].ratio_to(times["ours"]).median
    print(json.dumps({"milliseconds": times["compiled"].median, "to_ours": to_ours, "compile_seconds": seconds}))


def measured(
    networks: tuple[str, ...], rounds: int, device: torch.device, *, compiled: tuple[str, ...]
) -> dict[str, Any]:
    """Times, memory and ratios of every network, of some through torch.compile as a whole too; prints them."""
    absent = peers.missing()
    for peer in absent:
        print(f'{peer} is not installed and not compared with: pip install -e ".[bench]"')
    found: dict[str, Any] = {}
    quantized_to_float, memory_ratios = [], []
    for name in networks:
        modes = OURS + tuple(mode for mode in PEERS if mode.split()[0] not in absent)
        times = interleaved({mode: step_of(name, mode, device) for mode in modes}, rounds)
        memory = {mode: peak_bytes(name, mode) for mode in modes}
        fastest_float = min((mode for mode in times if mode.startswith("float")), key=lambda mode: times[mode].median)
        auto = f"W2A2 {AUTO}"
        ratio, memory_ratio = times[auto].ratio_to(times[fastest_float]), memory[auto] / memory[f"float {AUTO}"]
        quantized_to_float.append(ratio.median)
        memory_ratios.append(memory_ratio)
        print(f"\n{name}\n| | ms a step | quartiles | peak MB |\n| --- | ---: | ---: | ---: |")
        for mode, each in times.items():
            spread = Spread.of(list(each.milliseconds))
            peak = memory[mode] / 1e6
            print(f"| {mode} | {each.median:.0f} | {spread.low:.0f} to {spread.high:.0f} | {peak:.0f} |")
        print(f"W2A2 {AUTO} / fastest float ({fastest_float}): {ratio}; memory, to float {AUTO}: {memory_ratio:.2f}")
        against = _against_peers(times)
        for line, value in against.items():
            print(f"{line}: {value}")
        whole = {mode: compiled_model(name, mode) for mode in COMPILED} if name in compiled else {}
        for mode, alone in whole.items():
            print(f"{mode}: {alone['milliseconds']:.0f} ms a step, {alone['to_ours']:.2f} times ours beside it", end="")
            print(f"; compiling and its first step {alone['compile_seconds']:.0f} s")
        found[name] = {
            "milliseconds": {mode: each.milliseconds for mode, each in times.items()},
            "peak_bytes": memory,
            "fastest_float": fastest_float,
            "quantized_to_float": asdict(ratio),
            "memory_quantized_to_float": memory_ratio,
            "peers_to_ours": {line: asdict(value) for line, value in against.items()},
            "compiled_models": whole,
        }
    print(
        f"\nW2A2 / float over the networks: median {statistics.median(quantized_to_float):.2f}, "
        f"largest {max(quantized_to_float):.2f}; memory: largest {max(memory_ratios):.2f}"
    )
    return found


def _against_peers(times: dict[str, Times]) -> dict[str, Spread]:
    found = {}
    ours = min((mode for mode in times if mode.startswith("W2A2")), key=lambda mode: times[mode].median)
    for peer in ("brevitas", "fakequantize"):
        of_peer = [mode for mode in times if mode.startswith(peer)]
        if not of_peer:
            continue
        best = min(of_peer, key=lambda mode: times[mode].median)
        found[f"{best} / {ours}, best against best"] = times[best].ratio_to(times[ours])
        for precision in ("fp32", "bf16"):
            found[f"{peer} / W2A2, both eager in {precision}, ours fused"] = times[
                f"{peer} {precision} plain"
            ].ratio_to(times[f"W2A2 {precision} fused"])
    return found


def depthwise_against_basic(rounds: int, device: torch.device) -> dict[str, Any]:
    """Networks of equal depth and about equal parameters, on one thread, as searches train them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    for size, basic, depthwise in (
        (14, "basic-L20-D6", "depthwise-L20-D8"),
        (32, "basic-L20-D16", "depthwise-L20-D22"),
    ):
        modes = ("float bf16 fused", "W2A2 bf16 fused")
        steps = {f"{name} {mode}": step_of(name, mode, device, size) for name in (basic, depthwise) for mode in modes}
        times = interleaved(steps, rounds)
        for mode in modes:
            ratio = times[f"{depthwise} {mode}"].ratio_to(times[f"{basic} {mode}"])
            print(f"{depthwise} / {basic}, {size}x{size}, one thread, {mode}: {ratio}")
            found[f"{depthwise} / {basic} {mode}"] = asdict(ratio)
    torch.set_num_threads(threads)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true", help="whole models through torch.compile too: minutes")
    parser.add_argument("--memory-of", nargs=2, metavar=("NETWORK", "MODE"), help=argparse.SUPPRESS)
    parser.add_argument("--compiled-alone", nargs=2, metavar=("NETWORK", "MODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        _print_peak(*arguments.memory_of)
        return
    device = prepare_device(arguments.device, arguments.threads)
    if arguments.compiled_alone:
        _print_compiled(*arguments.compiled_alone, device, arguments.rounds)
        return
    networks = tuple(arguments.networks.split(","))
    measured(networks, arguments.rounds, device, compiled=networks if arguments.compiled else ())


if __name__ == "__main__":
    main()
