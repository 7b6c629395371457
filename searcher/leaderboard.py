"""Leaderboards: finished evaluations of one task and recipe, ranked by validation accuracy at the ranking bit widths.

Test accuracies stand beside it and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from qcore.bit_widths import FLOAT
from qcore.stages import NUMERICS_VERSION
from searcher.tables import Candidate, Evaluation, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.orm import Session

    from qcore import BitWidths, Recipe, Task

_RANKED_STATUSES = ("done", "diverged")


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracies over seeds, in percent; None where every run diverged."""

    validation: float | None
    test: float | None


@dataclass(frozen=True)
class Entry:
    """One architecture on a leaderboard."""

    rank: int
    """1 + the number of entries that are better; equal accuracies share a rank, diverged ones come last."""
    architecture: str
    block: str
    depth: int
    width: int
    parameters: int
    seeds: list[int]
    """Those whose stage at the ranking bit widths has ended."""
    evaluations: list[int]
    diverged: int
    """How many of the seeds diverged at the ranking bit widths."""
    accuracy: dict[str, Accuracy]
    """By bit widths, ``float`` first."""
    drop: float | None
    """Percentage points of test accuracy from float to the ranking bit widths."""
    train_seconds: float
    """Of all stages shown, summed over seeds."""
    ranking_accuracy: float | None
    """Mean validation accuracy at the ranking bit widths: what ranks."""


def search_leaderboard(session: Session, search: Search) -> list[Entry]:
    """The leaderboard of a search: its candidates that have a result at its first bit widths."""
    query = _stages_of(
        search.task,
        search.task_version,
        search.numerics_version,
        search.float_recipe_hash,
        search.retraining_recipe_hash,
        search.bit_widths,
    ).where(
        Evaluation.architecture.in_(select(Candidate.architecture).where(Candidate.search_id == search.id)),
        Evaluation.seed.in_(search.seeds),
    )
    return _ranked(session.execute(query), search.bit_widths)


def task_leaderboard(
    session: Session,
    task: Task,
    recipe: Recipe,
    bit_widths: Sequence[BitWidths],
    *,
    max_parameters: int | None = None,
    block: str | None = None,
) -> list[Entry]:
    """The leaderboard of a task and recipe over all searches, ranked by the first of the bit widths."""
    names = [str(bits) for bits in bit_widths]
    query = _stages_of(
        task.name, task.version, NUMERICS_VERSION, recipe.float_part.hash(), recipe.retraining.hash(), names
    )
    if max_parameters is not None:
        query = query.where(Evaluation.parameters <= max_parameters)
    if block is not None:
        query = query.where(Evaluation.block == block)
    return _ranked(session.execute(query), names)


def stages_of_best(session: Session, count: int) -> set[int]:
    """Ids of the stages of the ``count`` best architectures of every leaderboard there is.

    A task and recipe has one leaderboard for each of its bit widths; an architecture's stages are those at all of them.
    """
    leaderboards = (
        select(
            Evaluation.task,
            Evaluation.task_version,
            Evaluation.numerics_version,
            Evaluation.float_recipe_hash,
            Stage.retraining_recipe_hash,
            Stage.bit_widths,
        )
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(Stage.retraining_recipe_hash.is_not(None), Stage.status.in_(_RANKED_STATUSES))
        .distinct()
    )
    found: set[int] = set()
    for task, version, numerics, float_hash, retraining_hash, bits in session.execute(leaderboards).all():
        assert retraining_hash is not None
        query = _stages_of(task, version, numerics, float_hash, retraining_hash, [bits])
        entries = _ranked(session.execute(query), [bits])
        best = [number for entry in entries if entry.rank <= count for number in entry.evaluations]
        of_recipe = or_(Stage.retraining_recipe_hash.is_(None), Stage.retraining_recipe_hash == retraining_hash)
        found.update(session.scalars(select(Stage.id).where(Stage.evaluation_id.in_(best), of_recipe)))
    return found


def _stages_of(
    task: str,
    task_version: str,
    numerics_version: int,
    float_hash: str,
    retraining_hash: str,
    bit_widths: Sequence[str],
) -> Select[Evaluation, Stage]:
    return (
        select(Evaluation, Stage)
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(
            Evaluation.task == task,
            Evaluation.task_version == task_version,
            Evaluation.numerics_version == numerics_version,
            Evaluation.float_recipe_hash == float_hash,
            Stage.status.in_(_RANKED_STATUSES),
            or_(
                Stage.bit_widths == str(FLOAT),
                and_(Stage.bit_widths.in_(bit_widths), Stage.retraining_recipe_hash == retraining_hash),
            ),
        )
        .order_by(Evaluation.architecture, Evaluation.seed)
    )


def _ranked(rows: Iterable[Row[Evaluation, Stage]], bit_widths: Sequence[str]) -> list[Entry]:
    stages: dict[str, dict[int, tuple[Evaluation, dict[str, Stage]]]] = {}
    for evaluation, stage in rows:
        seeds = stages.setdefault(evaluation.architecture, {})
        seeds.setdefault(evaluation.seed, (evaluation, {}))[1][stage.bit_widths] = stage
    ranking = bit_widths[0]
    unranked = []
    for seeds in stages.values():
        ended = [(evaluation, by_bits) for evaluation, by_bits in seeds.values() if ranking in by_bits]
        if ended:
            unranked.append(_unranked_entry(ended, bit_widths))
    # A better accuracy first; diverged entries have none and come last; then whatever is smaller.
    unranked.sort(key=lambda e: (-_sortable(e["ranking_accuracy"]), e["parameters"], e["architecture"]))
    entries: list[Entry] = []
    for position, entry in enumerate(unranked, start=1):
        tied = bool(entries) and entries[-1].ranking_accuracy == entry["ranking_accuracy"]
        entries.append(Entry(rank=entries[-1].rank if tied else position, **entry))
    return entries


def _unranked_entry(ended: Sequence[tuple[Evaluation, dict[str, Stage]]], bit_widths: Sequence[str]) -> dict[str, Any]:
    ranking, first = bit_widths[0], ended[0][0]
    accuracy = {}
    for bits in (str(FLOAT), *bit_widths):
        found = [stages[bits] for _, stages in ended if bits in stages]
        accuracy[bits] = Accuracy(
            _mean(stage.validation_accuracy for stage in found), _mean(stage.test_accuracy for stage in found)
        )
    float_test, ranked_test = accuracy[str(FLOAT)].test, accuracy[ranking].test
    diverged = sum(stages[ranking].status == "diverged" for _, stages in ended)
    return {
        "architecture": first.architecture,
        "block": first.block,
        "depth": first.depth,
        "width": first.width,
        "parameters": first.parameters,
        "seeds": [evaluation.seed for evaluation, _ in ended],
        "evaluations": [evaluation.id for evaluation, _ in ended],
        "diverged": diverged,
        "accuracy": accuracy,
        "drop": None if float_test is None or ranked_test is None else float_test - ranked_test,
        "train_seconds": sum(stage.train_seconds or 0.0 for _, stages in ended for stage in stages.values()),
        # A seed that diverged is worth less than any accuracy: the architecture is not to be relied on.
        "ranking_accuracy": None if diverged else accuracy[ranking].validation,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _sortable(accuracy: float | None) -> float:
    return -1.0 if accuracy is None else accuracy
