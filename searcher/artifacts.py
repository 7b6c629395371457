"""Where training states and trained networks lie: files below one directory that all workers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Artifacts:
    """Paths by stage key. A stage's network is written before its result is stored: what was trained has a file."""

    root: Path

    def network(self, stage_key: str) -> Path:
        """The trained network's state dict, as safetensors."""
        return self.root / "networks" / f"{stage_key}.safetensors"

    def checkpoint(self, stage_key: str) -> Path:
        """The state of a stage in training; removed when its result is stored."""
        return self.root / "checkpoints" / f"{stage_key}.safetensors"
