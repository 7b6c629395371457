"""Proposals: which evaluations, and which of their stages, a search wants. Functions never commit their session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from qcore import Architecture, BitWidths, stages_of, stored_task
from qcore import Stage as StagePlan
from qcore.cost import parameters
from qcore.stages import NUMERICS_VERSION
from qcore.training_memory import estimated_bytes
from searcher.database import insert_into
from searcher.events import emit
from searcher.situation import OPEN, evaluations_left, recipes_of
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from qcore import Recipe, Task

_CHUNK = 500


@dataclass(frozen=True)
class ToPropose:
    """A candidate at one of a search's rungs, with some seeds."""

    candidate: Candidate
    rung: int
    seeds: tuple[int, ...]


def propose(session: Session, search: Search, candidate: Candidate) -> None:
    """Proposes a candidate with the full recipe and the search's seeds; see ``propose_all``."""
    rung = len(search.rungs)
    propose_all(session, search, [ToPropose(candidate, rung, seeds_at(search, rung))])


def propose_all(session: Session, search: Search, wanted: Sequence[ToPropose]) -> None:
    """Links candidates to one evaluation per seed, queueing what is not there yet, within ``max_evaluations``.

    The first come first. The search's row is locked by the caller.
    """
    plans = {
        stages[0].key: (each, stages)
        for each in wanted
        for stages in (stages_at(search, each.candidate, each.rung, (seed,)) for seed in each.seeds)
    }
    ended = ended_keys(session, (key for _, stages in plans.values() for key in keys_of(stages)))
    free = {key for key, (_, stages) in plans.items() if keys_of(stages) <= ended}
    left = evaluations_left(session, search)
    paid = [key for key in plans if key not in free][:left]
    plans = {key: plan for key, plan in plans.items() if key in free or key in paid}
    if not plans:
        return
    _insert_missing(session, Evaluation, "float_key", [_evaluation_values(stages[0]) for _, stages in plans.values()])
    evaluations = _evaluations_of(session, plans, lock=bool(paid))
    _insert_missing(
        session,
        Stage,
        "key",
        [_stage_values(stage, evaluations[key].id) for key, (_, stages) in plans.items() for stage in stages],
    )
    for key in paid:
        evaluation = evaluations[key]
        if evaluation.status not in OPEN:
            evaluation.status, evaluation.attempt, evaluation.fruitless_attempts = "queued", 0, 0
            evaluation.error = evaluation.ended_at = None
    session.add_all(
        Proposal(
            candidate_id=each.candidate.id,
            evaluation_id=evaluations[key].id,
            search_id=search.id,
            rung=each.rung,
            free=key in free,
        )
        for key, (each, _) in plans.items()
    )
    session.flush()
    for each in dict.fromkeys(each for each, _ in plans.values()):
        rung_told = {"rung": each.rung} if search.rungs else {}
        emit(session, [search], "candidate_proposed", architecture=each.candidate.architecture, **rung_told)


def _evaluations_of(session: Session, float_keys: Iterable[str], *, lock: bool) -> dict[str, Evaluation]:
    """Evaluations by their keys. Locked where some are to be trained; a posted search, which links many at once, links
    those alone whose results are there, and waits for nobody.
    """
    found: dict[str, Evaluation] = {}
    keys = list(float_keys)
    for start in range(0, len(keys), _CHUNK):
        query = select(Evaluation).where(Evaluation.float_key.in_(keys[start : start + _CHUNK]))
        if lock:
            query = query.order_by(Evaluation.id).with_for_update().execution_options(populate_existing=True)
        found.update((evaluation.float_key, evaluation) for evaluation in session.scalars(query))
    return found


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


def evaluations_without_result(search: Search) -> Select[int]:
    """Evaluations that a search has proposed, with a pending stage that it asked for; once for each such stage."""
    return (
        select(Evaluation.id)
        .join(Proposal, Proposal.evaluation_id == Evaluation.id)
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(Proposal.search_id == search.id, Stage.status == "pending", stages_wanted_by(search))
    )


def has_open_proposals(session: Session, search: Search) -> bool:
    query = evaluations_without_result(search).where(Evaluation.status.in_(OPEN)).limit(1)
    return session.scalars(query).first() is not None


def ended_keys(session: Session, wanted: Iterable[str]) -> set[str]:
    keys = list(wanted)
    ended: set[str] = set()
    for start in range(0, len(keys), _CHUNK):
        query = select(Stage.key).where(Stage.key.in_(keys[start : start + _CHUNK]), Stage.status != "pending")
        ended.update(session.scalars(query))
    return ended


def stages_at(search: Search, candidate: Candidate, rung: int, seeds: Sequence[int]) -> tuple[StagePlan, ...]:
    """What a candidate's evaluations with those seeds train."""
    task, architecture = stored_task(search.task, search.task_version), Architecture.parse(candidate.architecture)
    recipes, bit_widths = recipes_of(search), tuple(map(BitWidths.parse, search.bit_widths))
    return tuple(
        stage for seed in seeds for stage in stages_at_rung(task, architecture, recipes, rung, seed, bit_widths)
    )


def stages_at_rung(
    task: Task,
    architecture: Architecture,
    recipes: Sequence[Recipe],
    rung: int,
    seed: int,
    bit_widths: tuple[BitWidths, ...],
) -> tuple[StagePlan, ...]:
    """What one evaluation trains; before the full recipe, the last, no more than what ranks."""
    is_full = rung == len(recipes) - 1
    return stages_of(task, architecture, recipes[rung], seed, bit_widths if is_full else bit_widths[:1])


def keys_of(stages: Iterable[StagePlan]) -> set[str]:
    return {stage.key for stage in stages}


def seeds_at(search: Search, rung: int) -> tuple[int, ...]:
    return tuple(search.seeds if rung == len(search.rungs) else search.seeds[:1])


def _rung_hashes(search: Search) -> list[str]:
    return [recipe.retraining.hash() for recipe in recipes_of(search)[:-1]]


def _evaluation_values(stage: StagePlan) -> dict[str, Any]:
    architecture = stage.architecture
    layers = architecture.layers(stage.task)
    return {
        "float_key": stage.key,
        "task": stage.task.name,
        "task_version": stage.task.version,
        "architecture": architecture.name,
        "block": architecture.block,
        "depth": architecture.depth,
        "width": architecture.width,
        "parameters": parameters(layers),
        "memory_bytes": estimated_bytes(layers, stage.task, stage.recipe),
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
    ordered = sorted(rows, key=lambda row: str(row[unique]))
    for start in range(0, len(ordered), _CHUNK):
        values = ordered[start : start + _CHUNK]
        session.execute(insert_into(session, table).values(values).on_conflict_do_nothing(index_elements=[unique]))
