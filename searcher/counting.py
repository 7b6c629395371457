"""Counting results: keeping standings equal to what the stages say, in the transaction in which a stage ends.

A standing is always computed afresh from its architecture's stages, under the lock of its leaderboard: two results that
come at once are both in it, whichever comes second. The lock is the last that a transaction takes.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select, update

from qcore import InvalidInput, Recipe, stored_task
from searcher.costs import Costs, costs_of
from searcher.database import insert_into
from searcher.ended_stages import ENDED, ended_stages, of_recipe
from searcher.standings import by_seed, standing_of
from searcher.tables import Evaluation, Leaderboard, Stage, StoredStanding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from searcher.database import Database

log = logging.getLogger(__name__)

_BATCH = 500


class Ranked(NamedTuple):
    """What tells leaderboards apart; in their order, locks are taken."""

    task: str
    task_version: str
    numerics_version: int
    float_recipe_hash: str
    retraining_recipe_hash: str
    bit_widths: str


def ranked_by(task: str, task_version: str, numerics_version: int, recipe: Recipe) -> Ranked:
    """The leaderboards of a task and recipe, at all bit widths: theirs is left empty."""
    return Ranked(task, task_version, numerics_version, recipe.float_part.hash(), recipe.retraining.hash(), "")


def count(session: Session, stages: Iterable[Stage]) -> None:
    """Brings the standings that ended stages take part in up to date: a float one, in all of its evaluation's."""
    found = list(stages)
    for stage in found:
        stage.counted = True
    session.flush()
    evaluations = [stage.evaluation_id for stage in found if stage.retraining_recipe_hash is None]
    retrained = [stage.id for stage in found if stage.retraining_recipe_hash is not None]
    query = (
        select(
            *(Evaluation.task, Evaluation.task_version, Evaluation.numerics_version, Evaluation.float_recipe_hash),
            *(Stage.retraining_recipe_hash, Stage.bit_widths, Evaluation.architecture, Stage.recipe),
        )
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(Stage.status.in_(ENDED), Stage.retraining_recipe_hash.is_not(None))
    )
    standings: dict[tuple[Ranked, str], Any] = {}
    for column, ids in ((Stage.id, retrained), (Stage.evaluation_id, evaluations)):
        for *own, architecture, recipe in session.execute(query.where(column.in_(ids))) if ids else ():
            standings[Ranked(*own), architecture] = recipe
    for ranked, architecture in sorted(standings):
        _keep(session, ranked, architecture, standings[ranked, architecture])


def count_uncounted(session: Session, most: int = _BATCH) -> int:
    """Counts results that a release without standings wrote; returns how many."""
    query = select(Stage).where(Stage.status.in_(ENDED), ~Stage.counted).order_by(Stage.id).limit(most)
    found = session.scalars(query).all()
    count(session, found)
    return len(found)


def catch_up(database: Database) -> None:
    """Counts whatever is not counted yet; a look at an empty index where everything is."""
    with database.read() as session:
        if session.scalars(select(Stage.id).where(Stage.status.in_(ENDED), ~Stage.counted).limit(1)).first() is None:
            return
    while True:
        with database.write() as session:
            if count_uncounted(session) < _BATCH:
                return


def _keep(session: Session, ranked: Ranked, architecture: str, recipe: Any) -> None:
    try:
        task = stored_task(ranked.task, ranked.task_version)
        settings = Recipe.stored(recipe).retraining.quantizers
        leaderboard, revision = _locked(session, ranked)
        evaluations = (*of_recipe(*ranked[:4]), Evaluation.architecture == architecture)
        stages = session.execute(ended_stages(evaluations, ranked.retraining_recipe_hash, [ranked.bit_widths]))
        ended = by_seed(stages, ranked.bit_widths)[architecture]
        costs = Costs.of(costs_of(architecture, task.name, task.version, (ranked.bit_widths,), settings))
        standing = standing_of(ended, ranked.bit_widths, costs)
    except InvalidInput as error:  # of a release that knew a task, an architecture or a setting that this one does not
        log.warning("%s on %s is on no leaderboard: %s", architecture, ranked.task, error)
        return
    values = asdict(standing) | {"leaderboard_id": leaderboard, "revision": revision}
    session.execute(
        insert_into(session, StoredStanding)
        .values(values)
        .on_conflict_do_update(index_elements=["leaderboard_id", "architecture"], set_=values)
    )


def _locked(session: Session, ranked: Ranked) -> tuple[int, int]:
    """A leaderboard's id and its next revision, its row locked until the transaction ends."""
    values = ranked._asdict()
    raised = (
        update(Leaderboard)
        .filter_by(**values)
        .values(revision=Leaderboard.revision + 1)
        .returning(Leaderboard.id, Leaderboard.revision)
        .execution_options(synchronize_session=False)
    )
    found = session.execute(raised).one_or_none()
    if found is None:
        session.execute(insert_into(session, Leaderboard).values(**values, revision=0).on_conflict_do_nothing())
        found = session.execute(raised).one()
    return found.id, found.revision
