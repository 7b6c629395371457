"""How far a search is: its candidates, their evaluations as this search sees them, and the epochs trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import case, exists, func, select

from searcher.planning import promoted
from searcher.proposals import stages_wanted_by
from searcher.situation import evaluations_left, recipes_of
from searcher.tables import Candidate, Evaluation, Proposal, Search, Stage
from searcher.workers import NO_WORKER, waits_for, why_no_driver

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, SQLColumnExpression
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Progress:
    """How far a search is. Epochs are those of every stage it wants, trained for it or before."""

    candidates: int
    proposed: int
    evaluations: dict[str, int]
    """Proposed evaluations by status."""
    epochs_done: int
    epochs_total: int
    waits_for: str | None = None
    """What has to be there before anything moves, and is not."""


def progress(session: Session, search: Search) -> Progress:
    return progress_of_all(session, [search])[search.id]


def progress_of_all(session: Session, searches: Sequence[Search]) -> dict[int, Progress]:
    """Of several searches, by id, in about as many queries as of one."""
    ids = [search.id for search in searches]
    of_searches = select(Proposal.search_id, func.count(Proposal.candidate_id.distinct())).where(
        Proposal.search_id.in_(ids)
    )
    proposed: dict[int, int] = dict(session.execute(of_searches.group_by(Proposal.search_id)).all())
    at_rungs: dict[int, dict[int, int]] = {number: {} for number in ids}
    for number, count, rung in session.execute(
        of_searches.add_columns(Proposal.rung).group_by(Proposal.search_id, Proposal.rung)
    ):
        at_rungs[number][rung] = count
    candidates: dict[int, int] = dict(
        session.execute(
            select(Candidate.search_id, func.count()).where(Candidate.search_id.in_(ids)).group_by(Candidate.search_id)
        ).all()
    )
    evaluations = _evaluations(session, searches)
    found = {}
    for search in searches:
        own = evaluations[search.id]
        unproposed = candidates.get(search.id, 0) - proposed.get(search.id, 0)
        to_come = _evaluations_to_come(session, search, at_rungs[search.id], unproposed)
        found[search.id] = Progress(
            candidates.get(search.id, 0),
            proposed.get(search.id, 0),
            own.by_status,
            own.epochs_done,
            own.epochs + _epochs(search, to_come),
            _waits_for(session, search),
        )
    return found


@dataclass
class _Evaluations:
    """Those proposed for a search, and the epochs of the stages that it wants of them."""

    by_status: dict[str, int] = field(default_factory=dict)
    epochs_done: int = 0
    epochs: int = 0


def _evaluations(session: Session, searches: Sequence[Search]) -> dict[int, _Evaluations]:
    found = {search.id: _Evaluations() for search in searches}
    alike: dict[str, list[Search]] = {}  # searches that want the same stages are counted together
    for search in searches:
        wanted = json.dumps([search.bit_widths, search.retraining_recipe_hash, search.rungs])
        alike.setdefault(wanted, []).append(search)
    for group in alike.values():
        each = (
            select(
                *(Proposal.search_id, Evaluation.status),
                func.max(case((Stage.status == "pending", 1), else_=0)).label("waits"),
                func.sum(Stage.epochs_done).label("epochs_done"),
                func.sum(Stage.epochs).label("epochs"),
            )
            .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
            .join(Stage, Stage.evaluation_id == Evaluation.id)
            .where(Proposal.search_id.in_([search.id for search in group]), stages_wanted_by(group[0]))
            .group_by(Proposal.search_id, Proposal.candidate_id, Evaluation.id)
            .subquery()
        )
        status = _as_seen(each.c.waits == 1, each.c.status)
        query = select(
            *(each.c.search_id, status, func.count(), func.sum(each.c.epochs_done), func.sum(each.c.epochs))
        ).group_by(each.c.search_id, status)
        for number, name, count, epochs_done, epochs in session.execute(query):
            own = found[number]
            own.by_status[name] = count
            own.epochs_done += int(epochs_done)
            own.epochs += int(epochs)
    return found


def _epochs(search: Search, evaluations: Sequence[int]) -> int:
    """Of so many evaluations at each rung, the full recipe last."""
    bit_widths = [1] * len(search.rungs) + [len(search.bit_widths)]
    return sum(
        count * (recipe.float_part.epochs + at_once * recipe.retraining.epochs)
        for count, recipe, at_once in zip(evaluations, recipes_of(search), bit_widths, strict=True)
    )


def _waits_for(session: Session, search: Search) -> str | None:
    if search.status != "running":
        return None
    if search.engine == "ray":  # its trials are workers only while they have something to do
        told = why_no_driver(session) or waits_for(session, search)
        return None if told == NO_WORKER else told
    return waits_for(session, search)


def _evaluations_to_come(session: Session, search: Search, proposed: Mapping[int, int], unproposed: int) -> list[int]:
    """How many evaluations are still to be proposed at each rung, the full recipe last, if nothing ends it before.

    ``proposed`` has the candidates that were proposed at each rung. Further seeds are left out: nobody knows how many
    it will take.
    """
    to_come, population = [], proposed.get(0, 0) + unproposed
    for rung in range(len(search.rungs) + 1):
        seeds = len(search.seeds) if rung == len(search.rungs) else 1
        to_come.append(seeds * max(0, population - proposed.get(rung, 0)))
        population = promoted(search.promoted_share, population)
    left = evaluations_left(session, search)
    if left is not None:
        for rung in reversed(range(len(to_come))):
            to_come[rung] = min(to_come[rung], left)
            left -= to_come[rung]
    return to_come


@dataclass(frozen=True)
class Proposed:
    """An evaluation as the search that it was proposed for sees it."""

    evaluation: int
    """Its id."""
    seed: int
    attempt: int
    error: str | None
    status: str
    """Done once every stage the search wants has ended, whatever others want."""
    rung: int | None
    """Position among the search's rungs; None for the full recipe."""


def candidates_of(
    session: Session, search: Search, limit: int | None = None, after_id: int = 0
) -> list[tuple[Candidate, list[Proposed]]]:
    """Candidates, in the order they were enumerated, with their evaluations, by rung and seed.

    All of them, or so many that come after the one of that id.
    """
    query = select(Candidate).where(Candidate.search_id == search.id, Candidate.id > after_id)
    found: dict[int, tuple[Candidate, list[Proposed]]] = {
        candidate.id: (candidate, []) for candidate in session.scalars(query.order_by(Candidate.id).limit(limit))
    }
    linked = (
        select(
            *(Proposal.candidate_id, Proposal.rung, Evaluation.id, Evaluation.seed, Evaluation.attempt),
            *(Evaluation.error, _status_for(search)),
        )
        .join(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .where(Proposal.search_id == search.id, Proposal.candidate_id.between(*_bounds(found)))
        .order_by(Proposal.rung, Evaluation.seed)
    )
    for candidate_id, rung, evaluation, seed, attempt, error, status in session.execute(linked):
        short = rung if rung < len(search.rungs) else None
        found[candidate_id][1].append(Proposed(evaluation, seed, attempt, error, status, short))
    return list(found.values())


def _bounds(ids: Collection[int]) -> tuple[int, int]:
    """The least and the greatest, or of none two that nothing lies between."""
    return min(ids, default=1), max(ids, default=0)


def _status_for(search: Search) -> ColumnElement[str]:
    waits = exists().where(Stage.evaluation_id == Evaluation.id, Stage.status == "pending", stages_wanted_by(search))
    return _as_seen(waits, Evaluation.status)


def _as_seen(waits: ColumnElement[bool], status: SQLColumnExpression[str]) -> ColumnElement[str]:
    """An evaluation's status for a search, given whether a stage that it wants is pending."""
    return case((waits, status), else_="done")
