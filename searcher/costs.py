"""What stored architectures cost. Closed forms, but thousands a request: remembered, or read from their standings."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from qcore import Architecture, BitWidths, Description, describe, stored_task
from qcore.bit_widths import FLOAT
from qcore.cost import float_bit_operations, float_model_bytes
from searcher.tables import StoredStanding

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from qcore import Task
    from qcore.recipe import QuantizerSettings


@dataclass(frozen=True)
class Costs:
    """An architecture's, as ``qcore.Description`` tells them."""

    macs: int
    bit_operations: dict[str, int]
    """By bit widths, float first, as model bytes."""
    model_bytes: dict[str, int]

    @classmethod
    def of(cls, told: Description) -> Costs:
        return cls(told.macs, told.bit_operations, told.model_bytes)


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


def costs_of_all(
    session: Session,
    architectures: Collection[str],
    task: Task,
    bit_widths: tuple[str, ...],
    settings: QuantizerSettings,
    leaderboards: Mapping[str, int],
) -> dict[str, Costs]:
    """Of some architectures, by name.

    ``leaderboards`` has the ids of those of the task and recipe, by bit widths. Whoever has a standing on all that are
    asked for is not computed.
    """
    found: dict[str, Costs] = {}
    if all(bits in leaderboards for bits in bit_widths):
        found.update(_of_standings(session, architectures, {leaderboards[bits]: bits for bits in bit_widths}))
    for name in architectures:
        if name not in found:
            found[name] = Costs.of(costs_of(name, task.name, task.version, bit_widths, settings))
    return found


def _of_standings(session: Session, architectures: Collection[str], bit_widths: Mapping[int, str]) -> dict[str, Costs]:
    """Of those that have a standing at all bit widths, which are by their leaderboards' ids."""
    kept = StoredStanding
    query = select(
        kept.leaderboard_id, kept.architecture, kept.parameters, kept.macs, kept.bit_operations, kept.model_bytes
    ).where(kept.leaderboard_id.in_(bit_widths), kept.architecture.in_(architectures))
    by_name: defaultdict[str, dict[int, Row[*tuple[Any, ...]]]] = defaultdict(dict)
    for row in session.execute(query):
        by_name[row.architecture][row.leaderboard_id] = row
    found = {}
    for name, rows in by_name.items():
        if len(rows) == len(bit_widths):
            any_row = next(iter(rows.values()))
            operations = {str(FLOAT): float_bit_operations(any_row.macs)}
            model_bytes = {str(FLOAT): float_model_bytes(any_row.parameters)}
            for leaderboard, bits in bit_widths.items():
                operations[bits], model_bytes[bits] = rows[leaderboard].bit_operations, rows[leaderboard].model_bytes
            found[name] = Costs(any_row.macs, operations, model_bytes)
    return found
