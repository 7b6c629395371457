"""Searches: created, settled, cancelled, extended, ended by their limits. Functions take a session and never commit."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from qcore import InvalidInput, stored_task
from qcore.cost import parameters_of
from qcore.stages import NUMERICS_VERSION
from searcher.database import read_clock
from searcher.events import emit, lock_searches
from searcher.failures import why_nothing_succeeded
from searcher.idempotency import bind_name, take_name
from searcher.plan_keys import keys_of_plan
from searcher.planning import mean_accuracy
from searcher.proposals import (
    ToPropose,
    ended_keys,
    evaluations_without_result,
    has_open_proposals,
    propose_all,
    seeds_at,
    wanted_evaluations,
)
from searcher.situation import OPEN, outcomes_of, situation_of
from searcher.tables import Candidate, Evaluation, Event, IdempotencyKey, Proposal, Search

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from searcher.database import Database
    from searcher.idempotency import Name
    from searcher.plan import SearchPlan
    from searcher.plan_keys import PlanKeys
    from searcher.request import Limits, SearchRequest


def create_search(
    session: Session,
    plan: SearchPlan,
    posted_by: int | None = None,
    named: tuple[Name, SearchRequest] | None = None,
    keys: PlanKeys | None = None,
) -> Search:
    """Stores a search and its candidates; those whose results are there already are linked to them at once.

    Args:
        posted_by: id of the API key it was posted with, if with any.
        named: what the client calls it, and what it asked for.
        keys: of ``keys_of_plan``, if they were computed before the transaction that shuts other writers out.

    Raises:
        NameTaken: when it was posted before under that name. Nothing is stored then.
    """
    search = Search(
        status="running",
        task=plan.task.name,
        task_version=plan.task.version,
        numerics_version=NUMERICS_VERSION,
        parameter_budget=plan.budgets.parameters,
        model_bytes_budget=plan.budgets.model_bytes,
        bit_operations_budget=plan.budgets.bit_operations,
        bit_widths=[str(bits) for bits in plan.bit_widths],
        seeds=list(plan.seeds),
        engine=plan.engine,
        sampler=plan.sampler,
        minimize=plan.minimize,
        rungs=[recipe.model_dump(mode="json") for recipe in plan.rungs],
        promoted_share=plan.promoted_share,
        max_seeds=plan.max_seeds,
        top=plan.top,
        indifference_margin=plan.indifference_margin,
        max_evaluations=plan.max_evaluations,
        time_limit_s=plan.time_limit_s,
        target_accuracy=plan.target_accuracy,
        priority=plan.priority,
        recipe=plan.recipe.model_dump(mode="json"),
        float_recipe_hash=plan.recipe.float_part.hash(),
        retraining_recipe_hash=plan.recipe.retraining.hash(),
        posted_by=posted_by,
    )
    candidates = [
        Candidate(
            architecture=architecture.name,
            block=architecture.block,
            depth=architecture.depth,
            width=architecture.width,
            parameters=parameters_of(architecture, plan.task),
        )
        for architecture in plan.candidates
    ]
    by_candidate = zip(candidates, keys_of_plan(plan) if keys is None else keys, strict=True)
    wanted = [(candidate, rung, each) for candidate, by_rung in by_candidate for rung, each in enumerate(by_rung)]
    if named is not None:
        take_name(session, *named)
    session.add(search)
    session.flush()
    lock_searches(session, [search.id])
    if named is not None:
        bind_name(session, named[0], search.id)
    for candidate in candidates:
        candidate.search_id = search.id
    session.add_all(candidates)
    session.flush()
    emit(session, [search], "search_created", candidates=len(candidates))
    ended = ended_keys(session, set().union(*(keys for _, _, keys in wanted)))
    there = [(candidate, rung) for candidate, rung, keys in wanted if keys <= ended]
    propose_all(session, search, [ToPropose(candidate, rung, seeds_at(search, rung)) for candidate, rung in there])
    settle(session, search)
    return search


def get_search(session: Session, search_id: int) -> Search | None:
    return session.get(Search, search_id)


def searches_by_id(session: Session, search_ids: Iterable[int]) -> dict[int, Search]:
    """Those of the searches that there are."""
    return {search.id: search for search in session.scalars(select(Search).where(Search.id.in_(search_ids)))}


def list_searches(
    session: Session, limit: int, before_id: int | None = None, *, status: str | None = None, task: str | None = None
) -> list[Search]:
    """Searches, newest first, older than ``before_id`` if given, of one status and one task if asked for."""
    query = select(Search).order_by(Search.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Search.id < before_id)
    if status is not None:
        query = query.where(Search.status == status)
    if task is not None:
        query = query.where(Search.task == task)
    return list(session.scalars(query))


def settle(session: Session, search: Search) -> None:
    """Ends a (locked) search once nothing of it is open and nothing more may be proposed.

    It has finished then, or failed if nothing succeeded.
    """
    session.flush()
    if search.status != "running" or has_open_proposals(session, search):
        return
    situation = situation_of(session, search)
    if situation.next_wish() is None:
        if replace(situation, left=None).next_wish() is not None:
            _finish(session, search, "max_evaluations")
        else:
            _finish(session, search, "failures" if session.scalars(_without_result(search)).first() else "complete")


def settle_ended(database: Database, search_ids: Sequence[int]) -> None:
    """Settles searches of which an evaluation has just ended; most have others open, and none is locked for that.

    Of two last ones that end at the same moment, each may find the other open: ``propose_next`` settles it then.
    """
    with database.read() as session:
        searches = [search for each in search_ids if (search := session.get(Search, each)) is not None]
        ended = [search.id for search in searches if not has_open_proposals(session, search)]
    if ended:
        with database.write() as session:
            for search in lock_searches(session, ended):
                settle(session, search)


def cancel_search(session: Session, search_id: int) -> Search | None:
    """Ends a running search; evaluations that no other running search wants are cancelled. None if there is none."""
    locked = lock_searches(session, [search_id])
    if not locked:
        return None
    search = locked[0]
    if search.status == "running":
        search.status, search.ended_at = "cancelled", read_clock(session)
        _give_up_open_evaluations(session, search)
        emit(session, [search], "search_cancelled")
    return search


def extend_search(session: Session, search_id: int, limits: Limits) -> Search | None:
    """Gives a search the limits that are named; one that finished or failed goes on if they let it.

    It trains what is missing then, and nothing twice.

    A time limit counts from now on. None if there is no such search.

    Raises:
        InvalidInput: for a search that was cancelled.
    """
    locked = lock_searches(session, [search_id])
    if not locked:
        return None
    search = locked[0]
    if search.status == "cancelled":
        raise InvalidInput("search", search_id, "was cancelled", "post it again: results that are there are kept")
    changes = limits.model_dump(exclude_unset=True)
    for name, value in changes.items():
        setattr(search, name, value)
    if "time_limit_s" in changes:
        search.started_at = read_clock(session)
    if search.status in ("finished", "failed"):
        search.status, search.ended_by, search.ended_at, search.problem = "running", None, None, None
    # What was cancelled, failed or was lost is proposed again when its turn comes.
    session.execute(
        delete(Proposal)
        .where(Proposal.search_id == search.id, Proposal.evaluation_id.in_(_without_result(search)))
        .execution_options(synchronize_session=False)
    )
    emit(session, [search], "search_extended", **changes)
    settle(session, search)
    return search


def fail_search(session: Session, search: Search, reason: str) -> None:
    """Ends a (locked) running search that cannot succeed, and says why; what is open of it is given up.

    One that has ended stays as it is.
    """
    if search.status != "running":
        return
    search.status, search.ended_by, search.ended_at = "failed", "failed", read_clock(session)
    search.problem = reason
    _give_up_open_evaluations(session, search)
    emit(session, [search], "search_failed", reason=reason)


def delete_search(session: Session, search_id: int) -> Search | None:
    """Removes an ended search with its candidates, proposals and events; evaluations and their results stay.

    None if there is no such search; one that runs is returned and stays.
    """
    locked = lock_searches(session, [search_id])
    if not locked:
        return None
    if locked[0].status != "running":
        # Waits for whoever is telling it something, which it could not do later.
        session.execute(select(Search.id).where(Search.id == search_id).with_for_update())
        for table in (Event, Proposal, Candidate, IdempotencyKey):
            session.execute(
                delete(table).where(table.search_id == search_id).execution_options(synchronize_session=False)
            )
        session.delete(locked[0])
    return locked[0]


def end_at_limits(database: Database) -> None:
    """Finishes running searches that have reached their time limit or target, each in a transaction of its own.

    What is open of them, and wanted by no other, is cancelled.
    """
    has_limit = Search.time_limit_s.is_not(None) | Search.target_accuracy.is_not(None)
    with database.read() as session:
        limited = session.scalars(select(Search).where(Search.status == "running", has_limit)).all()
        reached = [search.id for search in limited if limit_reached(session, search)]
    for search_id in reached:
        with database.write() as session:
            for search in lock_searches(session, [search_id]):  # none if it was deleted since
                if search.status == "running" and (reason := limit_reached(session, search)):
                    _finish(session, search, reason)
                    _give_up_open_evaluations(session, search)


def limit_reached(session: Session, search: Search) -> str | None:
    """The limit that ends a search now, if one does."""
    if search.time_limit_s is not None and read_clock(session) >= search.started_at + search.time_limit_s:
        return "time_limit_s"
    if search.target_accuracy is not None:
        full = [outcome for outcome in outcomes_of(session, search) if outcome.rung == len(search.rungs)]
        for _, outcomes in groupby(full, key=lambda outcome: outcome.architecture):
            own = list(outcomes)
            mean, lacks_seeds = mean_accuracy(own), set(search.seeds) - {outcome.seed for outcome in own}
            if not lacks_seeds and mean is not None and mean >= search.target_accuracy:
                return "target_accuracy"
    return None


def searches_of_evaluation(session: Session, evaluation_id: int) -> list[int]:
    return list(session.scalars(select(Proposal.search_id).where(Proposal.evaluation_id == evaluation_id)))


def is_of_this_release(search: Search) -> bool:
    """Whether this release's training gives the results that a search asked for."""
    try:
        task = stored_task(search.task, search.task_version)
    except InvalidInput:
        return False
    return (search.task_version, search.numerics_version) == (task.version, NUMERICS_VERSION)


def _without_result(search: Search) -> Select[int]:
    """Evaluations that a search has proposed, and that ended without a stage it asked for."""
    return evaluations_without_result(search).where(Evaluation.status.not_in(OPEN))


def _finish(session: Session, search: Search, ended_by: str) -> None:
    if problem := why_nothing_succeeded(session, search):
        fail_search(session, search, problem)
    else:
        search.status, search.ended_by, search.ended_at = "finished", ended_by, read_clock(session)
        emit(session, [search], "search_finished", ended_by=ended_by)


def _give_up_open_evaluations(session: Session, search: Search) -> None:
    """Cancels the open evaluations of a search that has just ended, but for those another running search wants."""
    session.flush()
    own = select(Proposal.evaluation_id).where(Proposal.search_id == search.id)
    query = select(Evaluation).where(Evaluation.id.in_(own), Evaluation.status.in_(OPEN)).order_by(Evaluation.id)
    # Locked first: whoever is proposing one of them for another search has then done so, and is seen.
    open_ones = session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()
    still_wanted = wanted_evaluations(session, [evaluation.id for evaluation in open_ones])
    for evaluation in open_ones:
        if evaluation.id not in still_wanted:
            evaluation.status, evaluation.lease_token, evaluation.lease_ends = "cancelled", None, None
            evaluation.ended_at = search.ended_at
