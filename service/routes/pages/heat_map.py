"""Depth x width maps of a search: what every candidate reached, or how far it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from searcher.progress import Proposed
    from searcher.tables import Candidate

SHADES = 7

_STATES = ("running", "queued", "failed", "lost", "cancelled")
"""Of those that have no accuracy: what is told where several seeds differ, the first of these."""


@dataclass(frozen=True)
class Cell:
    """One candidate."""

    architecture: str
    state: str
    """done, diverged, or how far it is: ``pending`` before anything was proposed."""
    accuracy: float | None
    shade: int | None
    """0 for the worst of the search, to SHADES - 1."""
    evaluation: int | None
    error: str | None
    is_provisional: bool = False


@dataclass(frozen=True)
class HeatMap:
    """One block kind: rows by depth, columns by width."""

    block: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    cells: Mapping[tuple[int, int], Cell]


def heat_maps(
    candidates: Sequence[tuple[Candidate, Sequence[Proposed]]],
    accuracies: Mapping[str, float],
    diverged: frozenset[str],
    provisional: frozenset[str] = frozenset(),
) -> list[HeatMap]:
    """One map for each block kind, in the order of the candidates; accuracies by architecture."""
    low, high = min(accuracies.values(), default=0.0), max(accuracies.values(), default=0.0)
    by_block: dict[str, dict[tuple[int, int], Cell]] = {}
    for candidate, proposed in candidates:
        cell = _cell(candidate, proposed, accuracies.get(candidate.architecture), diverged, low, high)
        cell = replace(cell, is_provisional=cell.architecture in provisional)
        cells = by_block.setdefault(candidate.block, {})
        former = cells.get((candidate.depth, candidate.width))
        # Networks may have depth and width in common and differ in their blocks; the best stands for them.
        if former is None or _worth(cell) > _worth(former):
            cells[candidate.depth, candidate.width] = cell
    return [
        HeatMap(
            block,
            tuple(sorted({depth for depth, _ in cells})),
            tuple(sorted({width for _, width in cells})),
            cells,
        )
        for block, cells in by_block.items()
    ]


def _worth(cell: Cell) -> tuple[bool, float]:
    """What is provisional is best at nothing, but better than what has no result."""
    return cell.accuracy is not None and not cell.is_provisional, cell.accuracy or 0.0


def _cell(
    candidate: Candidate,
    proposed: Sequence[Proposed],
    accuracy: float | None,
    diverged: frozenset[str],
    low: float,
    high: float,
) -> Cell:
    name = candidate.architecture
    states = [each.status for each in proposed]
    state = next((state for state in _STATES if state in states), "done" if states else "pending")
    shade = None
    if name in diverged:
        state, accuracy = "diverged", None
    elif accuracy is not None:
        state = "done"
        shade = SHADES - 1 if high == low else min(SHADES - 1, int(SHADES * (accuracy - low) / (high - low)))
    elif state == "done":  # of a rung, and it was not promoted
        state = "stopped"
    error = next((each.error for each in proposed if each.error), None)
    return Cell(name, state, accuracy, shade, proposed[-1].evaluation if proposed else None, error)
