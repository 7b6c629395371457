"""How much main memory an evaluation takes: as estimated from its layers, or less, as measured before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from qcore import Architecture, Recipe, stored_task
from qcore.training_memory import estimated_bytes
from searcher.tables import Evaluation, Stage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_MARGIN = 1.2
"""Above what was measured: peaks of one network differ from run to run."""


def memory_of(session: Session, evaluation: Evaluation, device: str) -> int:
    """Bytes to set aside for an evaluation on the host of its device.

    The highest peak of those of one architecture and float recipe, if there is one below the estimate: a process that
    has run others before says too much.
    """
    like_it = (
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
    found = [stage.provenance or {} for stage in session.scalars(like_it)]
    peaks: list[int] = [
        each["peak_bytes"] for each in found if "peak_bytes" in each and _is_cpu(each) == (device == "cpu")
    ]
    task = stored_task(evaluation.task, evaluation.task_version)
    stored = session.scalars(select(Stage.recipe).where(Stage.evaluation_id == evaluation.id).limit(1)).one()
    layers = Architecture.parse(evaluation.architecture).layers(task)
    estimate = estimated_bytes(layers, task, Recipe.stored(stored), device)
    return min(estimate, round(_MARGIN * max(peaks))) if peaks else estimate


def _is_cpu(provenance: dict[str, Any]) -> bool:
    return bool(provenance["device"].startswith("cpu"))
