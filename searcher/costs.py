"""What stored architectures cost, remembered: closed forms, but of thousands a request."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from qcore import Architecture, BitWidths, Description, describe, stored_task

if TYPE_CHECKING:
    from qcore.recipe import QuantizerSettings


@lru_cache(maxsize=2**15)
def costs_of(
    architecture: str, task: str, version: str, bit_widths: tuple[str, ...], settings: QuantizerSettings
) -> Description:
    return describe(
        Architecture.parse(architecture),
        stored_task(task, version),
        [BitWidths.parse(bits) for bits in bit_widths],
        settings,
    )
