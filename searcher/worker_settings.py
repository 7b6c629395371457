"""How a worker runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from searcher.artifacts import Artifacts


@dataclass(frozen=True)
class WorkerSettings:
    """Device, places and times of a worker."""

    data_root: Path
    artifacts: Artifacts
    lease_seconds: float = 15.0
    """How long after a worker's last sign of life another takes its evaluation over."""
    poll_seconds: float = 0.5
    """Pause between two looks for work."""
    data_check_seconds: float = 60.0
    """Pause between two looks for data that were not there."""
    first_proof_pause_seconds: float = 1.0
    """Pause before one that is unfit proves itself again; it doubles"""
    longest_proof_pause_seconds: float = 60.0
    """up to this."""
    hang_seconds: float = 30.0
    """How long after its lease is lost a training may take to notice, before it is held to hang."""
    store_patience_seconds: float = 600.0
    """How long a trained network is kept for a store that does not take it; at least as long as training it took."""
    device: str = "cpu"
    threads: int = 1
    """Threads of one training run. One worker per core beats one worker with many threads."""
    room_bytes: int | None = None
    """Main memory that one evaluation may take; None for no limit. What takes more is left to other workers."""
