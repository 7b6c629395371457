"""Where a result came from: versions, device, threads, host, git revision."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore.stages import NUMERICS_VERSION

if TYPE_CHECKING:
    import torch


def provenance(device: torch.device) -> dict[str, Any]:
    """What has to be equal for a result to come out equal, bit for bit."""
    import torch

    return {
        **versions(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "revision": _revision(),
    }


def versions() -> dict[str, Any]:
    """What a host runs, without importing torch: quantrank, the version of its numerics, torch and Python."""
    return {
        "quantrank": version("quantrank"),
        "numerics": NUMERICS_VERSION,
        "torch": version("torch"),
        "python": platform.python_version(),
    }


@cache
def _revision() -> str | None:
    """The git revision of the checkout this runs from, marked if it was changed; for what was installed, as an image's
    code is, what QUANTRANK_REVISION says, or None."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return os.environ.get("QUANTRANK_REVISION") or None
    try:
        described = subprocess.run(  # noqa: S603  fixed arguments
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
