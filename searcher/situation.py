"""A search as its planning sees it: what it may spend, its candidates, and what its evaluations gave so far."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore import Architecture, BitWidths, Recipe, stored_task
from qcore.cost import sums_of
from searcher.planning import Outcome, Situation, Strategy
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from qcore import Task

OPEN = ("queued", "running")


def situation_of(session: Session, search: Search) -> Situation:
    """What the tables say at this moment."""
    return Situation(
        Strategy(
            seeds=tuple(search.seeds),
            rungs=len(search.rungs),
            promoted_share=search.promoted_share,
            promotes_early=search.time_limit_s is not None,
            max_seeds=search.max_seeds,
            top=search.top,
            indifference_margin=search.indifference_margin,
        ),
        _candidates(session, search),
        tuple(outcomes_of(session, search)),
        evaluations_left(session, search),
        _cost(search),
        validation_examples(stored_task(search.task, search.task_version), search_recipe(search)),
    )


def search_recipe(search: Search) -> Recipe:
    return recipes_of(search)[-1]


def recipes_of(search: Search) -> tuple[Recipe, ...]:
    """The recipe of each rung, the full one last."""
    return tuple(_recipe(json.dumps(values)) for values in (*search.rungs, search.recipe))


_architecture = lru_cache(maxsize=2**16)(Architecture.parse)  # a large search's are read again at every proposal


@lru_cache(maxsize=1024)
def _recipe(text: str) -> Recipe:
    return Recipe.stored(json.loads(text))


def validation_examples(task: Task, recipe: Recipe) -> int | None:
    """How many examples validation accuracies are shares of; None of a metric that is no share."""
    return task.validation_size(recipe) if task.metric == "accuracy" else None


def outcomes_of(session: Session, search: Search) -> list[Outcome]:
    """What every evaluation proposed for a search gave, in the order of the proposals' candidates."""
    hashes = [recipe.retraining.hash() for recipe in recipes_of(search)]
    query = (
        select(
            Candidate.architecture,
            Proposal.rung,
            Evaluation.seed,
            Evaluation.status,
            Stage.retraining_recipe_hash,
            Stage.status,
            Stage.validation_accuracy,
        )
        .join(Candidate, Candidate.id == Proposal.candidate_id)
        .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(
            Proposal.search_id == search.id,
            Stage.bit_widths == search.bit_widths[0],
            Stage.retraining_recipe_hash.in_(hashes),
        )
        .order_by(Candidate.id, Evaluation.seed)
    )
    return [
        Outcome(_architecture(architecture), rung, seed, accuracy, open=status in OPEN and stage == "pending")
        for architecture, rung, seed, status, retraining_hash, stage, accuracy in session.execute(query)
        if retraining_hash == hashes[rung]
    ]


def evaluations_left(session: Session, search: Search) -> int | None:
    """How many more evaluations a search may have trained; None if it has no limit."""
    if search.max_evaluations is None:
        return None
    trained = select(func.count()).where(Proposal.search_id == search.id, Proposal.free.is_(False))
    return max(0, search.max_evaluations - session.scalars(trained).one())


def _candidates(session: Session, search: Search) -> tuple[Architecture, ...]:
    """A search's candidates, in the order they were enumerated."""
    query = select(Candidate.architecture).where(Candidate.search_id == search.id).order_by(Candidate.id)
    return tuple(map(_architecture, session.scalars(query)))


def _cost(search: Search) -> Callable[[Architecture], float] | None:
    """The search's second objective."""
    if search.minimize is None:
        return None
    task = stored_task(search.task, search.task_version)
    bit_widths, settings = BitWidths.parse(search.bit_widths[0]), search_recipe(search).retraining.quantizers
    if search.minimize == "parameters":
        return lambda architecture: sums_of(architecture, task, (bit_widths,), settings).parameters
    return lambda architecture: sums_of(architecture, task, (bit_widths,), settings).bit_operations[str(bit_widths)]
