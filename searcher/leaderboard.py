"""Leaderboards: finished evaluations of one task and recipe, ranked by validation accuracy at the ranking bit widths.

Test accuracies stand beside it and decide nothing. ``board.Board`` ranks, sorts and cuts into pages; what a page's
entries say besides is read for them alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, or_, select

from qcore import stored_task
from qcore.bit_widths import FLOAT
from qcore.stages import NUMERICS_VERSION
from searcher.board import Board, Filters, Order
from searcher.boards import Boards
from searcher.costs import costs_of_all
from searcher.counting import ranked_by
from searcher.ended_stages import ENDED, ended_stages, of_recipe
from searcher.provisional import asked_revision, missing_of, missing_of_all_searches, pairs
from searcher.situation import recipes_of, validation_examples
from searcher.standings import Accuracy, accuracies, by_seed, ranking_accuracy, standing_of
from searcher.tables import Candidate, Evaluation, Leaderboard, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.orm import Session

    from qcore import BitWidths, Recipe, Task
    from qcore.ranking import AccuracyInterval, RankInterval
    from searcher.board import Position
    from searcher.costs import Costs
    from searcher.provisional import Missing
    from searcher.standings import EndedStage

_ALL, _BEST_FIRST = Filters(), Order()


@dataclass(frozen=True)
class Entry:
    """One architecture on a leaderboard."""

    rank: int
    """1 + the number of entries that are better; equal accuracies share a rank, diverged ones come last."""
    ranks: RankInterval
    """Those it may have; of diverged ones all behind the others."""
    best_at: list[str]
    """Of float and the ranking bit widths, those at which no entry that is not provisional has a better validation
    accuracy. None of a provisional one."""
    architecture: str
    block: str
    depth: int
    width: int
    parameters: int
    macs: int
    bit_operations: dict[str, int]
    """By bit widths, float first, as model bytes."""
    model_bytes: dict[str, int]
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
    """Of the float stages and those at the ranking bit widths, summed over seeds."""
    ranking_accuracy: float | None
    """Mean validation accuracy at the ranking bit widths: what ranks. None where a seed diverged."""
    ranking_accuracies: list[float | None]
    """Every seed's; None for those that diverged."""
    interval: AccuracyInterval | None
    """Of the ranking accuracy. None where there is none, or nothing to tell it by: single seeds, no shares."""
    missing: Missing
    """Seeds that were asked for and have no result, by bit widths: with any, the entry is provisional."""
    provenance: list[dict[str, Any]]
    """Of every seed's stage at the ranking bit widths, as ``qcore.provenance`` gives it; empty if unknown."""


@dataclass(frozen=True)
class LeaderboardPage:
    """Entries of a leaderboard, and what holds for all of it."""

    entries: list[Entry]
    total: int
    """Entries of the leaderboard, on whichever page."""
    best: dict[str, list[str]]
    """Architectures with the best validation accuracy in float and at the ranking bit widths; several if they tie.

    Those that are provisional are passed over."""
    order_agreement: float | None
    """Kendall's tau between the float and the ranking order, as ``Board`` tells it."""
    next: Position | None
    """Where the next page begins; None on the last."""


def leaderboard_of_search(
    session: Session, search: Search, rung: int | None = None, filters: Filters = _ALL, order: Order = _BEST_FIRST
) -> LeaderboardPage:
    """The leaderboard of a search: its candidates that have a result at its first bit widths.

    Of the full recipe, or apart from it of one of the search's rungs.
    """
    recipe = recipes_of(search)[-1 if rung is None else rung]
    bit_widths = search.bit_widths if rung in (None, len(search.rungs)) else search.bit_widths[:1]
    proposed = select(Proposal.evaluation_id).where(Proposal.search_id == search.id)
    own = (
        *of_recipe(search.task, search.task_version, search.numerics_version, recipe.float_part.hash()),
        Evaluation.architecture.in_(_names_of_candidates(search.id)),
        or_(Evaluation.seed.in_(search.seeds), Evaluation.id.in_(proposed)),
    )
    task, ranking = stored_task(search.task, search.task_version), bit_widths[0]
    stages = _stages_by_seed(session, own, recipe, bit_widths)
    kept = _leaderboards(session, search.task, search.task_version, search.numerics_version, recipe)
    costs = _costs(session, stages, task, recipe, bit_widths, kept)
    # Not the standings that are kept: those are of every seed that anybody wanted.
    standings = [standing_of(ended, ranking, costs[name]) for name, ended in stages.items()]
    board = Board.of(standings, validation_examples(task, recipe)).filtered(filters)
    indices, following = board.page(order)
    seeds = search.seeds if rung in (None, len(search.rungs)) else search.seeds[:1]
    asked = dict.fromkeys(bit_widths, seeds)

    def missing_of_some(names: Collection[str]) -> dict[str, Missing]:
        return {name: lacks for name in names if (lacks := missing_of(asked, pairs(stages[name])))}

    return _page(board, indices, following, stages, costs, bit_widths, missing_of_some)


def leaderboard_of_task(
    session: Session,
    task: Task,
    recipe: Recipe,
    bit_widths: Sequence[BitWidths],
    filters: Filters = _ALL,
    order: Order = _BEST_FIRST,
    *,
    search_id: int | None = None,
    boards: Boards | None = None,
) -> LeaderboardPage:
    """The leaderboard of a task and recipe over all searches, ranked by the first of the bit widths.

    With ``search_id`` only that search's candidates are on it, with all their seeds, whoever wanted them. ``boards``
    spares reading standings that were read before; for sessions that see nothing uncommitted.
    """
    names = [str(bits) for bits in bit_widths]
    examples = validation_examples(task, recipe)
    kept = _leaderboards(session, task.name, task.version, NUMERICS_VERSION, recipe)
    board = Board.of([], examples)
    if names[0] in kept:
        board = (boards or Boards()).get(session, *kept[names[0]], examples)
    among = None if search_id is None else frozenset(session.scalars(_names_of_candidates(search_id)))
    board = board.filtered(filters, among)
    indices, following = board.page(order)
    own = (
        *of_recipe(task.name, task.version, NUMERICS_VERSION, recipe.float_part.hash()),
        Evaluation.architecture.in_([board.name(index) for index in indices]),
    )
    stages = _stages_by_seed(session, own, recipe, names) if indices else {}
    costs = _costs(session, stages, task, recipe, names, kept)
    ranked = ranked_by(task.name, task.version, NUMERICS_VERSION, recipe)

    def missing_of_some(some: Collection[str]) -> dict[str, Missing]:
        return missing_of_all_searches(session, ranked, names, some)

    return _page(board, indices, following, stages, costs, names, missing_of_some)


def leaderboard_revisions(
    session: Session, task: Task, recipe: Recipe, bit_widths: Sequence[BitWidths]
) -> tuple[object, ...]:
    """Id and revision of the leaderboards of a task and recipe at some bit widths, None where there is none yet, and
    ``asked_revision``.

    What ``leaderboard_of_task`` shows is the same as long as these are.
    """
    found = _leaderboards(session, task.name, task.version, NUMERICS_VERSION, recipe)
    asked = asked_revision(session, ranked_by(task.name, task.version, NUMERICS_VERSION, recipe))
    return (*(found.get(str(bits)) for bits in bit_widths), asked)


def search_leaderboard(session: Session, search: Search, rung: int | None = None) -> list[Entry]:
    """All of a search's leaderboard."""
    return leaderboard_of_search(session, search, rung).entries


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
        .where(Stage.retraining_recipe_hash.is_not(None), Stage.status.in_(ENDED))
        .distinct()
    )
    found: set[int] = set()
    for task, version, numerics, float_hash, retraining_hash, bits in session.execute(leaderboards).all():
        assert retraining_hash is not None
        query = ended_stages(of_recipe(task, version, numerics, float_hash), retraining_hash, [bits])
        ranked = [
            (-math.inf if (mean := ranking_accuracy(ended, bits)) is None else mean, ended)
            for ended in by_seed(session.execute(query), bits).values()
        ]
        least = sorted((mean for mean, _ in ranked), reverse=True)[:count][-1:] or [math.inf]
        best = [by_bits[bits].id for mean, ended in ranked if mean >= least[0] for by_bits in ended]
        same_recipe = or_(Stage.retraining_recipe_hash.is_(None), Stage.retraining_recipe_hash == retraining_hash)
        found.update(session.scalars(select(Stage.id).where(Stage.evaluation_id.in_(best), same_recipe)))
    return found


def _leaderboards(
    session: Session, task: str, task_version: str, numerics_version: int, recipe: Recipe
) -> dict[str, tuple[int, int]]:
    """Ids and revisions of those that there are of a task and recipe, by bit widths."""
    ranked = ranked_by(task, task_version, numerics_version, recipe)
    query = select(Leaderboard.bit_widths, Leaderboard.id, Leaderboard.revision).filter_by(
        **{name: value for name, value in ranked._asdict().items() if name != "bit_widths"}
    )
    return {bits: (number, revision) for bits, number, revision in session.execute(query)}


def _costs(
    session: Session,
    architectures: Collection[str],
    task: Task,
    recipe: Recipe,
    bit_widths: Sequence[str],
    kept: Mapping[str, tuple[int, int]],
) -> dict[str, Costs]:
    ids = {bits: number for bits, (number, _) in kept.items()}
    return costs_of_all(session, architectures, task, tuple(bit_widths), recipe.retraining.quantizers, ids)


def _stages_by_seed(
    session: Session, evaluations: Sequence[ColumnElement[bool]], recipe: Recipe, bit_widths: Sequence[str]
) -> dict[str, list[dict[str, EndedStage]]]:
    """With the provenance of those that rank: more of it takes longer to read than all the rest."""
    provenance = case((Stage.bit_widths == bit_widths[0], Stage.provenance)).label("provenance")
    query = ended_stages(evaluations, recipe.retraining.hash(), bit_widths).add_columns(provenance)
    return by_seed(session.execute(query), bit_widths[0])


def _page(
    board: Board,
    indices: Sequence[int],
    following: Position | None,
    stages: Mapping[str, Sequence[Mapping[str, EndedStage]]],
    costs: Mapping[str, Costs],
    bit_widths: Sequence[str],
    missing_of_some: Callable[[Collection[str]], Mapping[str, Missing]],
) -> LeaderboardPage:
    best = {
        str(FLOAT): board.best("float_accuracy", missing_of_some),
        bit_widths[0]: board.best("accuracy", missing_of_some),
    }
    names = [board.name(index) for index in indices]
    missing = missing_of_some(names)
    entries = [
        _entry(board, index, stages[name], costs[name], bit_widths, best, missing.get(name, {}))
        for index, name in zip(indices, names, strict=True)
    ]
    return LeaderboardPage(entries, len(board), best, board.order_agreement, following)


def _entry(
    board: Board,
    index: int,
    ended: Sequence[Mapping[str, EndedStage]],
    costs: Costs,
    bit_widths: Sequence[str],
    best: Mapping[str, Sequence[str]],
    missing: Missing,
) -> Entry:
    ranking = [by_bits[bit_widths[0]] for by_bits in ended]
    first = ranking[0]
    rank, ranks, interval = board.rank(index)
    seconds = board.value(index, "train_seconds")
    assert seconds is not None
    return Entry(
        rank=rank,
        ranks=ranks,
        best_at=[bits for bits, names in best.items() if first.architecture in names],
        architecture=first.architecture,
        block=first.block,
        depth=first.depth,
        width=first.width,
        parameters=first.parameters,
        macs=costs.macs,
        bit_operations=costs.bit_operations,
        model_bytes=costs.model_bytes,
        seeds=[stage.seed for stage in ranking],
        evaluations=[stage.id for stage in ranking],
        diverged=sum(stage.status == "diverged" for stage in ranking),
        accuracy={bits: accuracies(ended, bits) for bits in (str(FLOAT), *bit_widths)},
        drop=board.value(index, "drop"),
        train_seconds=seconds,
        ranking_accuracy=board.value(index, "accuracy"),
        ranking_accuracies=[stage.validation_accuracy for stage in ranking],
        interval=interval,
        missing=missing,
        provenance=[stage.provenance or {} for stage in ranking],
    )


def _names_of_candidates(search_id: int) -> Select[str]:
    return select(Candidate.architecture).where(Candidate.search_id == search_id)
