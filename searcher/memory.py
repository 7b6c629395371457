"""How much main memory an evaluation takes: as measured before, or as estimated from its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from qcore import Architecture, Recipe, stored_task
from qcore.memory import estimated_bytes
from searcher.tables import Evaluation, Stage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_MARGIN = 1.2
"""Above what was measured: another seed's peak is not the same to the byte."""


def memory_of(session: Session, evaluation: Evaluation, device: str) -> int:
    """Bytes to set aside for an evaluation, in its device's host.

    A retrained stage's peak stands for the whole evaluation. The least of those of one architecture and float recipe
    counts: a process that has run others before says too much.
    """
    retrained = (
        select(Stage)
        .join(Evaluation, Evaluation.id == Stage.evaluation_id)
        .where(
            Evaluation.task == evaluation.task,
            Evaluation.task_version == evaluation.task_version,
            Evaluation.architecture == evaluation.architecture,
            Evaluation.float_recipe_hash == evaluation.float_recipe_hash,
            Stage.status == "done",
            Stage.bit_widths != "float",
        )
    )
    found = [stage.provenance or {} for stage in session.scalars(retrained)]
    peaks: list[int] = [
        each["peak_bytes"] for each in found if "peak_bytes" in each and _kind(each["device"]) == _kind(device)
    ]
    if peaks:
        return round(_MARGIN * min(peaks))
    task = stored_task(evaluation.task, evaluation.task_version)
    stored = session.scalars(select(Stage.recipe).where(Stage.evaluation_id == evaluation.id).limit(1)).one()
    layers = Architecture.parse(evaluation.architecture).layers(task)
    return estimated_bytes(layers, task, Recipe.stored(stored), device)


def _kind(device: str) -> str:
    return "cpu" if device.startswith("cpu") else "gpu"
