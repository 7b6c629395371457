"""Proposals: which evaluations, and which of their stages, a search wants. Functions never commit their session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite

from qcore import Architecture, BitWidths, stages_of, stored_task
from qcore import Stage as StagePlan
from qcore.cost import parameters
from qcore.stages import NUMERICS_VERSION
from searcher.events import emit
from searcher.situation import OPEN, evaluations_left, recipes_of
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

_CHUNK = 500


def propose(
    session: Session,
    search: Search,
    candidate: Candidate,
    rung: int | None = None,
    seeds: Sequence[int] | None = None,
) -> None:
    """Links a candidate to one evaluation per seed, queueing what is not there yet, within ``max_evaluations``.

    With the full recipe and the search's seeds unless others are given. The search's row is locked by the caller.
    """
    rung, left = len(search.rungs) if rung is None else rung, evaluations_left(session, search)
    plans: dict[str, tuple[StagePlan, ...]] = {}
    free: set[str] = set()
    for seed in seeds_at(search, rung) if seeds is None else seeds:
        stages = stages_at(search, candidate, rung, (seed,))
        keys = keys_of(stages)
        if ended_keys(session, keys) == keys:
            free.add(stages[0].key)
        elif left == 0:
            continue
        elif left is not None:
            left -= 1
        plans[stages[0].key] = stages
    if not plans:
        return
    _insert_missing(session, Evaluation, "float_key", [_evaluation_values(stages[0]) for stages in plans.values()])
    query = select(Evaluation).where(Evaluation.float_key.in_(plans)).order_by(Evaluation.id)
    if free != plans.keys():  # a posted search, which links many at once, links free ones only and waits for nobody
        query = query.with_for_update().execution_options(populate_existing=True)
    for evaluation in session.scalars(query).all():
        stages, is_free = plans[evaluation.float_key], evaluation.float_key in free
        _insert_missing(session, Stage, "key", [_stage_values(stage, evaluation.id) for stage in stages])
        if not is_free and evaluation.status not in OPEN:
            evaluation.status, evaluation.attempt, evaluation.fruitless_attempts = "queued", 0, 0
            evaluation.error = evaluation.ended_at = None
        session.add(
            Proposal(
                candidate_id=candidate.id,
                evaluation_id=evaluation.id,
                search_id=search.id,
                rung=rung,
                free=is_free,
            )
        )
    session.flush()
    rung_told = {"rung": rung} if search.rungs else {}
    emit(session, [search], "candidate_proposed", architecture=candidate.architecture, **rung_told)


def wants(search: Search, stage: Stage) -> bool:
    """Whether a stage of an evaluation proposed for a search is one it asked for."""
    if stage.retraining_recipe_hash == search.retraining_recipe_hash:
        return stage.bit_widths in search.bit_widths
    return stage.bit_widths == "float" or (
        stage.bit_widths == search.bit_widths[0] and stage.retraining_recipe_hash in _rung_hashes(search)
    )


def stages_wanted_by(search: Search) -> Any:
    """The SQL condition that a stage of a proposed evaluation is one this search asked for."""
    retraining = Stage.retraining_recipe_hash
    return or_(
        Stage.bit_widths == "float",
        Stage.bit_widths.in_(search.bit_widths) & (retraining == search.retraining_recipe_hash),
        (Stage.bit_widths == search.bit_widths[0]) & retraining.in_(_rung_hashes(search)),
    )


def wanted_evaluations(session: Session, evaluation_ids: Sequence[int]) -> set[int]:
    """Which of the evaluations have a pending stage that a running search asked for."""
    query = (
        select(Search, Stage)
        .join(Proposal, Proposal.search_id == Search.id)
        .join(Stage, Stage.evaluation_id == Proposal.evaluation_id)
        .where(Search.status == "running", Stage.status == "pending", Proposal.evaluation_id.in_(evaluation_ids))
    )
    return {stage.evaluation_id for search, stage in session.execute(query) if wants(search, stage)}


def has_open_proposals(session: Session, search: Search) -> bool:
    query = (
        select(Proposal.evaluation_id)
        .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(
            Proposal.search_id == search.id,
            Evaluation.status.in_(OPEN),
            Stage.status == "pending",
            stages_wanted_by(search),
        )
        .limit(1)
    )
    return session.scalars(query).first() is not None


def ended_keys(session: Session, wanted: Iterable[str]) -> set[str]:
    keys = list(wanted)
    ended: set[str] = set()
    for start in range(0, len(keys), _CHUNK):
        query = select(Stage.key).where(Stage.key.in_(keys[start : start + _CHUNK]), Stage.status != "pending")
        ended.update(session.scalars(query))
    return ended


def stages_at(search: Search, candidate: Candidate, rung: int, seeds: Sequence[int]) -> tuple[StagePlan, ...]:
    """What a candidate's evaluations with those seeds train; before the full recipe, no more than what ranks."""
    names = search.bit_widths if rung == len(search.rungs) else search.bit_widths[:1]
    return tuple(
        stage
        for seed in seeds
        for stage in stages_of(
            stored_task(search.task, search.task_version),
            Architecture.parse(candidate.architecture),
            recipes_of(search)[rung],
            seed,
            tuple(map(BitWidths.parse, names)),
        )
    )


def keys_of(stages: Iterable[StagePlan]) -> set[str]:
    return {stage.key for stage in stages}


def seeds_at(search: Search, rung: int) -> list[int]:
    return search.seeds if rung == len(search.rungs) else search.seeds[:1]


def _rung_hashes(search: Search) -> list[str]:
    return [recipe.retraining.hash() for recipe in recipes_of(search)[:-1]]


def _evaluation_values(stage: StagePlan) -> dict[str, Any]:
    architecture = stage.architecture
    return {
        "float_key": stage.key,
        "task": stage.task.name,
        "task_version": stage.task.version,
        "architecture": architecture.name,
        "block": architecture.block,
        "depth": architecture.depth,
        "width": architecture.width,
        "parameters": parameters(architecture.layers(stage.task)),
        "seed": stage.seed,
        "numerics_version": NUMERICS_VERSION,
        "float_recipe_hash": stage.recipe.float_part.hash(),
        "status": "queued",
    }


def _stage_values(stage: StagePlan, evaluation_id: int) -> dict[str, Any]:
    return {
        "key": stage.key,
        "evaluation_id": evaluation_id,
        "bit_widths": str(stage.bit_widths),
        "recipe": stage.recipe.model_dump(mode="json"),
        "retraining_recipe_hash": None if stage.bit_widths.is_float else stage.recipe.retraining.hash(),
        "status": "pending",
        "epochs": stage.epochs,
    }


def _insert_missing(
    session: Session, table: type[Evaluation | Stage], unique: str, rows: Sequence[dict[str, Any]]
) -> None:
    """Inserts rows whose unique value is not there yet, in its order, so that two inserts never wait for each other."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    ordered = sorted(rows, key=lambda row: str(row[unique]))
    session.execute(insert(table).values(ordered).on_conflict_do_nothing(index_elements=[unique]))
