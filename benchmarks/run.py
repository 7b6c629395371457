"""What ``make bench`` runs: steps, depthwise against basic networks, and whole runs; printed, and stored as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import steps
import whole

from qcore.devices import prepare_device, usable_cores
from qcore.provenance import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/bench.json"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = prepare_device(arguments.device, usable_cores())
    found = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {"cores": usable_cores(), "processor": platform.processor() or platform.machine()},
        "provenance": provenance(device),
        "steps": steps.measured(steps.NETWORKS, arguments.rounds, device, compiled=steps.NETWORKS[:1]),
        "depthwise_to_basic": steps.depthwise_against_basic(arguments.rounds, device),
        "whole": whole.measured(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"stored in {arguments.output}")


if __name__ == "__main__":
    main()
