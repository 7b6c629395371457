"""Leaderboards: finished evaluations of one task and recipe, ranked by validation accuracy at the ranking bit widths.

Test accuracies stand beside it and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, repeat
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import and_, or_, select

from qcore import stored_task
from qcore.bit_widths import FLOAT
from qcore.ranking import AccuracyInterval, RankInterval, accuracy_intervals, rank_intervals
from qcore.stages import NUMERICS_VERSION
from qcore.statistics import kendall_tau
from searcher.situation import recipes_of, validation_examples
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.orm import Session

    from qcore import BitWidths, Recipe, Task

_RANKED_STATUSES = ("done", "diverged")
_EndedStage: TypeAlias = "Row[*tuple[Any, ...]]"
"""A stage with its evaluation: the columns that ``_stages_of`` selects."""


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
    ranks: RankInterval
    """Those it may have; of diverged ones all behind the others."""
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
    """Mean validation accuracy at the ranking bit widths: what ranks. None where a seed diverged."""
    ranking_accuracies: list[float | None]
    """Every seed's; None for those that diverged."""
    interval: AccuracyInterval | None
    """Of the ranking accuracy. None where there is none, or nothing to tell it by: single seeds, no shares."""


def search_leaderboard(session: Session, search: Search, rung: int | None = None) -> list[Entry]:
    """The leaderboard of a search: its candidates that have a result at its first bit widths.

    Of the full recipe, or apart from it of one of the search's rungs.
    """
    recipe = recipes_of(search)[-1 if rung is None else rung]
    bit_widths = search.bit_widths if rung in (None, len(search.rungs)) else search.bit_widths[:1]
    proposed = select(Proposal.evaluation_id).where(Proposal.search_id == search.id)
    query = _stages_of(
        search.task,
        search.task_version,
        search.numerics_version,
        recipe.float_part.hash(),
        recipe.retraining.hash(),
        bit_widths,
    ).where(
        Evaluation.architecture.in_(select(Candidate.architecture).where(Candidate.search_id == search.id)),
        or_(Evaluation.seed.in_(search.seeds), Evaluation.id.in_(proposed)),
    )
    examples = validation_examples(stored_task(search.task, search.task_version), recipe)
    return _ranked(session.execute(query), bit_widths, examples)


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
    return _ranked(session.execute(query), names, validation_examples(task, recipe))


def order_agreement(entries: Sequence[Entry]) -> float | None:
    """Kendall's tau between the float order and the ranking order, by validation accuracy.

    Of entries that have both accuracies; None of fewer than two, or where all are equal.
    """
    both = [
        (entry.accuracy[str(FLOAT)].validation, entry.ranking_accuracy)
        for entry in entries
        if entry.ranking_accuracy is not None
    ]
    known = [(of_float, ranking) for of_float, ranking in both if of_float is not None]
    return kendall_tau([of_float for of_float, _ in known], [ranking for _, ranking in known])


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
        entries = _ranked(session.execute(query), [bits], examples=None)
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
) -> Select[*tuple[Any, ...]]:
    # Columns, not whole rows: a stage's recipe and provenance take longer to read than all the rest.
    return (
        select(
            Evaluation.id,
            Evaluation.architecture,
            Evaluation.block,
            Evaluation.depth,
            Evaluation.width,
            Evaluation.parameters,
            Evaluation.seed,
            Stage.bit_widths,
            Stage.status,
            Stage.validation_accuracy,
            Stage.test_accuracy,
            Stage.train_seconds,
        )
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


def _ranked(stages: Iterable[_EndedStage], bit_widths: Sequence[str], examples: int | None) -> list[Entry]:
    by_architecture: dict[str, dict[int, dict[str, _EndedStage]]] = {}
    for stage in stages:
        by_architecture.setdefault(stage.architecture, {}).setdefault(stage.seed, {})[stage.bit_widths] = stage
    unranked = []
    for by_seed in by_architecture.values():
        ended = [by_bits for by_bits in by_seed.values() if bit_widths[0] in by_bits]
        if ended:
            unranked.append(_unranked_entry(ended, bit_widths))
    # A better accuracy first; diverged entries have none and come last; then whatever is smaller.
    unranked.sort(key=lambda e: (-_sortable(e["ranking_accuracy"]), e["parameters"], e["architecture"]))
    groups = [entry["ranking_accuracies"] for entry in unranked if entry["ranking_accuracy"] is not None]
    last = RankInterval(len(groups) + 1, len(unranked))
    intervals = chain(accuracy_intervals(groups, examples), repeat(None))
    ranks = chain(rank_intervals(groups, examples), repeat(last))
    entries: list[Entry] = []
    for position, (entry, interval, possible) in enumerate(zip(unranked, intervals, ranks, strict=False), start=1):
        tied = bool(entries) and entries[-1].ranking_accuracy == entry["ranking_accuracy"]
        rank = entries[-1].rank if tied else position
        entries.append(Entry(rank=rank, ranks=possible, interval=interval, **entry))
    return entries


def _unranked_entry(ended: Sequence[dict[str, _EndedStage]], bit_widths: Sequence[str]) -> dict[str, Any]:
    ranking = [by_bits[bit_widths[0]] for by_bits in ended]
    first = ranking[0]
    accuracy = {}
    for bits in (str(FLOAT), *bit_widths):
        found = [by_bits[bits] for by_bits in ended if bits in by_bits]
        accuracy[bits] = Accuracy(
            _mean(stage.validation_accuracy for stage in found), _mean(stage.test_accuracy for stage in found)
        )
    float_test, ranked_test = accuracy[str(FLOAT)].test, accuracy[bit_widths[0]].test
    diverged = sum(stage.status == "diverged" for stage in ranking)
    return {
        "architecture": first.architecture,
        "block": first.block,
        "depth": first.depth,
        "width": first.width,
        "parameters": first.parameters,
        "seeds": [stage.seed for stage in ranking],
        "evaluations": [stage.id for stage in ranking],
        "diverged": diverged,
        "accuracy": accuracy,
        "drop": None if float_test is None or ranked_test is None else float_test - ranked_test,
        "train_seconds": sum(stage.train_seconds or 0.0 for by_bits in ended for stage in by_bits.values()),
        # A seed that diverged is worth less than any accuracy: the architecture is not to be relied on.
        "ranking_accuracy": None if diverged else accuracy[bit_widths[0]].validation,
        "ranking_accuracies": [stage.validation_accuracy for stage in ranking],
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _sortable(accuracy: float | None) -> float:
    return -1.0 if accuracy is None else accuracy
