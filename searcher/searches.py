"""Searches: created, proposed to, cancelled, settled. Functions take a session and never commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from qcore import Architecture, BitWidths, InvalidInput, Recipe, stages_of, stored_task
from qcore import Stage as StagePlan
from qcore.cost import parameters
from qcore.stages import NUMERICS_VERSION
from searcher.database import read_clock
from searcher.events import emit, lock_searches
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from searcher.request import SearchPlan

OPEN = ("queued", "running")
_CHUNK = 500


def create_search(session: Session, plan: SearchPlan) -> Search:
    """Stores a search and its candidates; those whose results are there already are linked to them at once."""
    search = Search(
        status="running",
        task=plan.task.name,
        task_version=plan.task.version,
        numerics_version=NUMERICS_VERSION,
        parameter_budget=plan.parameter_budget,
        bit_widths=[str(bits) for bits in plan.bit_widths],
        seeds=list(plan.seeds),
        engine=plan.engine,
        max_evaluations=plan.max_evaluations,
        recipe=plan.recipe.model_dump(mode="json"),
        float_recipe_hash=plan.recipe.float_part.hash(),
        retraining_recipe_hash=plan.recipe.retraining.hash(),
    )
    candidates = [
        Candidate(
            architecture=architecture.name,
            block=architecture.block,
            depth=architecture.depth,
            width=architecture.width,
            parameters=parameters(architecture.layers(plan.task)),
        )
        for architecture in plan.candidates
    ]
    # Keys take their time; on SQLite the first statement shuts other writers out.
    wanted = [
        {stage.key for seed in plan.seeds for stage in _stages(search, plan.recipe, candidate, seed)}
        for candidate in candidates
    ]
    session.add(search)
    session.flush()
    for candidate in candidates:
        candidate.search_id = search.id
    session.add_all(candidates)
    session.flush()
    emit(session, [search], "search_created", candidates=len(candidates))
    ended = _ended_keys(session, set().union(*wanted))
    for candidate, keys in zip(candidates, wanted, strict=True):
        if keys <= ended:
            propose(session, search, candidate)
    settle(session, search)
    return search


def get_search(session: Session, search_id: int) -> Search | None:
    return session.get(Search, search_id)


def list_searches(session: Session, limit: int, before_id: int | None = None) -> list[Search]:
    """Searches, newest first, older than ``before_id`` if given."""
    query = select(Search).order_by(Search.id.desc()).limit(limit)
    return list(session.scalars(query if before_id is None else query.where(Search.id < before_id)))


def unproposed_candidates(session: Session, search: Search, limit: int | None = None) -> list[Candidate]:
    """Candidates that no evaluation was proposed for, in the order they were enumerated."""
    proposed = select(Proposal.candidate_id).where(Proposal.search_id == search.id)
    query = select(Candidate).where(Candidate.search_id == search.id, Candidate.id.not_in(proposed))
    return list(session.scalars(query.order_by(Candidate.id).limit(limit)))


def evaluations_left(session: Session, search: Search) -> int | None:
    """How many more evaluations a search may have trained; None if it has no limit."""
    if search.max_evaluations is None:
        return None
    trained = select(func.count()).where(Proposal.search_id == search.id, Proposal.free.is_(False))
    return max(0, search.max_evaluations - session.scalars(trained).one())


def propose(session: Session, search: Search, candidate: Candidate) -> None:
    """Links a candidate to one evaluation per seed, queueing what is not there yet, within ``max_evaluations``.

    The search's row is locked by the caller.
    """
    recipe, left = search_recipe(search), evaluations_left(session, search)
    plans: dict[str, tuple[StagePlan, ...]] = {}
    free: set[str] = set()
    for seed in search.seeds:
        stages = _stages(search, recipe, candidate, seed)
        keys = {stage.key for stage in stages}
        if _ended_keys(session, keys) == keys:
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
        session.add(Proposal(candidate_id=candidate.id, evaluation_id=evaluation.id, search_id=search.id, free=is_free))
    session.flush()
    emit(session, [search], "candidate_proposed", architecture=candidate.architecture)


def settle(session: Session, search: Search) -> None:
    """Marks a (locked) search finished once nothing of it is open and nothing more may be proposed."""
    session.flush()
    if search.status != "running" or _has_open_proposals(session, search):
        return
    if evaluations_left(session, search) == 0 or not unproposed_candidates(session, search, limit=1):
        search.status, search.ended_at = "finished", read_clock(session)
        emit(session, [search], "search_finished")


def cancel_search(session: Session, search_id: int) -> Search | None:
    """Ends a running search; evaluations that no other running search wants are cancelled. None if there is none."""
    locked = lock_searches(session, [search_id])
    if not locked:
        return None
    search = locked[0]
    if search.status != "running":
        return search
    search.status, search.ended_at = "cancelled", read_clock(session)
    session.flush()
    own = select(Proposal.evaluation_id).where(Proposal.search_id == search.id)
    query = select(Evaluation).where(Evaluation.id.in_(own), Evaluation.status.in_(OPEN)).order_by(Evaluation.id)
    # Locked first: whoever is proposing one of them for another search has then done so, and is seen.
    open_ones = session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()
    still_wanted = _wanted_evaluations(session, [evaluation.id for evaluation in open_ones])
    for evaluation in open_ones:
        if evaluation.id not in still_wanted:
            evaluation.status, evaluation.lease_token, evaluation.lease_ends = "cancelled", None, None
            evaluation.ended_at = search.ended_at
    emit(session, [search], "search_cancelled")
    return search


def searches_of_evaluation(session: Session, evaluation_id: int) -> list[int]:
    return list(session.scalars(select(Proposal.search_id).where(Proposal.evaluation_id == evaluation_id)))


def is_of_this_release(search: Search) -> bool:
    """Whether this release's training gives the results that a search asked for."""
    try:
        task = stored_task(search.task, search.task_version)
    except InvalidInput:
        return False
    return (search.task_version, search.numerics_version) == (task.version, NUMERICS_VERSION)


def search_recipe(search: Search) -> Recipe:
    return Recipe.stored(search.recipe)


def wants(search: Search, stage: Stage) -> bool:
    """Whether a stage of an evaluation proposed for a search is one it asked for."""
    return stage.bit_widths == "float" or (
        stage.bit_widths in search.bit_widths and stage.retraining_recipe_hash == search.retraining_recipe_hash
    )


def stages_wanted_by(search: Search) -> Any:
    """The SQL condition that a stage of a proposed evaluation is one this search asked for."""
    return Stage.bit_widths.in_(["float", *search.bit_widths]) & (
        Stage.retraining_recipe_hash.is_(None) | (Stage.retraining_recipe_hash == search.retraining_recipe_hash)
    )


def _wanted_evaluations(session: Session, evaluation_ids: Sequence[int]) -> set[int]:
    """Which of the evaluations have a pending stage that a running search asked for."""
    query = (
        select(Search, Stage)
        .join(Proposal, Proposal.search_id == Search.id)
        .join(Stage, Stage.evaluation_id == Proposal.evaluation_id)
        .where(Search.status == "running", Stage.status == "pending", Proposal.evaluation_id.in_(evaluation_ids))
    )
    return {stage.evaluation_id for search, stage in session.execute(query) if wants(search, stage)}


def _has_open_proposals(session: Session, search: Search) -> bool:
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


def _stages(search: Search, recipe: Recipe, candidate: Candidate, seed: int) -> tuple[StagePlan, ...]:
    return stages_of(
        stored_task(search.task, search.task_version),
        Architecture.parse(candidate.architecture),
        recipe,
        seed,
        tuple(map(BitWidths.parse, search.bit_widths)),
    )


def _ended_keys(session: Session, wanted: Iterable[str]) -> set[str]:
    keys = list(wanted)
    ended: set[str] = set()
    for start in range(0, len(keys), _CHUNK):
        query = select(Stage.key).where(Stage.key.in_(keys[start : start + _CHUNK]), Stage.status != "pending")
        ended.update(session.scalars(query))
    return ended


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
