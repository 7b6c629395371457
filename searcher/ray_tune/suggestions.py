"""Which evaluation Tune places next: a Tune search algorithm that asks the database."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher
from sqlalchemy.exc import SQLAlchemyError

from searcher import leases
from searcher.database import Database
from searcher.memory import memory_of
from searcher.next_proposal import propose_next
from searcher.ray_tune.cluster import nodes, slots
from searcher.ray_tune.presence import has_stopped
from searcher.searches import end_at_limits

if TYPE_CHECKING:
    from collections.abc import Collection

    from searcher.ray_tune.cluster import Share
    from searcher.ray_tune.trial import Trials
    from searcher.serving_order import Asked, Placed
    from searcher.tables import Evaluation

log = logging.getLogger(__name__)

_MEMORY_STEP = 2**28
"""Bytes that memory is asked for in multiples of: a process goes on to the next trial that asks for the same."""

_NOTHING: Placed = (0, 0)


def next_evaluation(
    database: Database, handed_out: Collection[Placed] = (), asked: Asked | None = None
) -> Evaluation | None:
    """The evaluation to place next, claimable or proposed now by a search that comes first; None if there is none.

    One handed out before counts as running. It is placed again only after its trial has claimed it, and its lease has
    ended. ``asked`` is what searches had nothing to propose when they were asked before (``propose_next``).
    """
    asked = {} if asked is None else asked
    while True:
        end_at_limits(database)
        with database.write() as session:
            leases.bury_lost(session)
        with database.read() as session:
            found = leases.claimable(session, "ray", 1, handed_out, asked)
        if found:
            return found[0]
        known = asked.copy()
        if not propose_next(database, engine="ray", asked=asked, placed=handed_out) and asked == known:
            return None


class Suggestions(Searcher):
    """Hands out evaluations, one more than the cluster has room for at once.

    It ends the run of Tune when nothing is left to do and no trial is left. What a sampler proposes is decided late,
    when a trial can start or is next to: it then knows most.
    """

    def __init__(self, trials: Trials, share: Share) -> None:
        super().__init__()
        self._trials, self._share = trials, share
        self._handed_out: dict[str, Placed] = {}
        self._asked: Asked = {}
        self._next_look = 0.0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The configuration of a trial; None if there is none at present, FINISHED if there is nothing more to do."""
        if time.monotonic() < self._next_look or len(self._handed_out) > slots(
            self._share, [node["Resources"] for node in nodes()]
        ):
            return None
        try:
            evaluation = self._next()
            if evaluation is not None:
                with self._database.read() as session:
                    memory = self._share.memory_bytes or memory_of(session, evaluation, self._trials.settings.device)
        except SQLAlchemyError as error:
            self._database.outage.begin(error)
            self._next_look = time.monotonic() + self._trials.settings.poll_seconds
            return None
        if evaluation is None:
            self._next_look = time.monotonic() + self._trials.settings.poll_seconds
            return None if self._handed_out else Searcher.FINISHED
        self._handed_out[trial_id] = (evaluation.id, evaluation.attempt)
        return {"evaluation": evaluation.id, "memory_bytes": self._memory_to_ask_for(memory)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Gives an evaluation to another trial if its own is on a node that is unfit, where it keeps its place."""
        if reason := result.get("unfit"):
            log.warning("a node of the cluster is unfit: %s", reason)
            self._handed_out[trial_id] = _NOTHING

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        """Forgets a trial, however it ended: what became of its evaluation is in the database."""
        self._handed_out.pop(trial_id, None)
        self._next_look = 0.0

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's runs are not restored."""

    @cached_property
    def _database(self) -> Database:
        return Database(self._trials.database_url)

    def _next(self) -> Evaluation | None:
        with self._database.read() as session:
            if has_stopped(session, self._trials.driver_id):
                return None
        return next_evaluation(self._database, self._handed_out.values(), self._asked)

    def _memory_to_ask_for(self, memory: int) -> int:
        """In whole steps; at most what the largest node has, because an estimate is not a proof."""
        largest = max((int(node["Resources"].get("memory", 0)) for node in nodes()), default=memory)
        return min(-(-memory // _MEMORY_STEP) * _MEMORY_STEP, largest)
