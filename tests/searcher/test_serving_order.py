"""Who is served next: every claim of small and large pools is what a model in a few lines of Python says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from building import claim, end_lease, post, propose_candidates, rows, work
from working import worker_settings

from searcher import leases
from searcher.leases import Lease, release
from searcher.next_proposal import propose_next
from searcher.proposals import wants
from searcher.request import Limits
from searcher.searches import cancel_search, extend_search
from searcher.situation import OPEN, situation_of
from searcher.tables import Evaluation, Proposal, Search, Stage
from searcher.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from searcher.database import Database


class Pool:
    """Several workers' claims, one after another, while searches are posted, cancelled and extended."""

    def __init__(self, database: Database, workers: int, seed: int) -> None:
        self.database, self.workers, self.drawn = database, workers, random.Random(seed)
        self.held: list[Lease] = []
        self.moment = 0
        self.since: dict[int, int] = {}
        """The moment at which each search was last served, or else posted."""

    def searches(self) -> list[Search]:
        return rows(self.database, Search, status="running")

    def wanted(self) -> dict[int, set[int]]:
        """What each running search still wants."""
        pending: dict[int, list[Stage]] = {}
        for stage in rows(self.database, Stage, status="pending"):
            pending.setdefault(stage.evaluation_id, []).append(stage)
        found: dict[int, set[int]] = {search.id: set() for search in self.searches()}
        for search in self.searches():
            for proposal in rows(self.database, Proposal, search_id=search.id):
                if any(wants(search, stage) for stage in pending.get(proposal.evaluation_id, [])):
                    found[search.id].add(proposal.evaluation_id)
        return found

    def in_order(self, engine: str = "optuna") -> list[int]:
        """The model."""
        wanted, running = self.wanted(), {lease.evaluation_id for lease in self.held}
        key = lambda each: (-each.priority, len(wanted[each.id] & running), self.since[each.id], each.id)  # noqa: E731
        return [each.id for each in sorted(self.searches(), key=key)]

    def expected(self) -> int | None:
        """The evaluation that the model has claimed next."""
        wanted, running = self.wanted(), {lease.evaluation_id for lease in self.held}
        evaluations = rows(self.database, Evaluation)
        queued = {each.id for each in evaluations if each.status in OPEN and each.fruitless_attempts < 3} - running
        return next((min(wanted[each] & queued) for each in self.in_order() if wanted[each] & queued), None)

    def note(self, lease: Lease, wanted: dict[int, set[int]]) -> None:
        self.moment += 1
        self.held.append(lease)
        self.since |= {search: self.moment for search, own in wanted.items() if lease.evaluation_id in own}

    def post(self) -> None:
        chosen = self.drawn
        self.moment += 1
        more: list[dict[str, Any]] = [{}, {}, {"rungs": [0.5], "promoted_share": 0.5}, {"max_evaluations": 2}]
        search_id = post(
            self.database,
            widths=chosen.sample(range(3, 7), 2),
            seeds=chosen.choice([[0], [0, 1], [1, 2]]),
            bit_widths=chosen.choice([["W2A2"], ["W2A2", "W4A4"], ["W4A4"]]),
            priority=chosen.choice([-100, 0, 0, 0, 100]),
            **chosen.choice(more),
        )
        self.since[search_id] = self.moment

    def any_search(self, *statuses: str) -> int | None:
        found = [each.id for each in rows(self.database, Search) if each.status in statuses]
        return self.drawn.choice(found) if found else None

    def change(self) -> None:
        """Something that is no claim happens."""
        what = self.drawn.random()
        if what < 0.25 or not self.searches():
            self.post()
        elif what < 0.35 and (search_id := self.any_search("running")):
            with self.database.write() as session:
                cancel_search(session, search_id)
            self.held = [lease for lease in self.held if self.is_held(lease)]
        elif what < 0.45 and (search_id := self.any_search("running", "finished")):
            with self.database.write() as session:
                extend_search(session, search_id, Limits(max_evaluations=None))
        elif what < 0.55 and self.held:
            lease = self.taken()
            if self.drawn.random() < 0.5:
                end_lease(self.database, lease)
            else:
                with self.database.write() as session:
                    release(session, lease)
        elif self.held:
            work(self.database, self.taken())

    def is_held(self, lease: Lease) -> bool:
        (found,) = rows(self.database, Evaluation, id=lease.evaluation_id)
        return bool(found.lease_token == lease.token)

    def taken(self) -> Lease:
        return self.held.pop(self.drawn.randrange(len(self.held)))


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_claim_is_the_one_that_the_model_makes(database: Database, workers: int) -> None:
    pool, contested = Pool(database, workers, seed=workers), 0
    for _ in range(60):
        pool.change()
        while pool.drawn.random() < 0.4 and propose_next(database):
            pass
        if len(pool.held) < workers:
            expected, wanted = pool.expected(), pool.wanted()
            with database.write() as session:
                lease = leases.claim(session, "worker", 1000.0)
            assert (lease and lease.evaluation_id) == expected
            if lease is not None:
                pool.note(lease, wanted)
                contested += sum(len(own) > 0 for own in wanted.values()) > 1
    assert contested > 4


class Claiming(Worker):
    """Claims and proposes as a worker does; what it has claimed is for others to run."""

    claimed: Lease | None = None

    def _run_claimed(self, lease: Lease) -> None:
        self.claimed = lease

    def next_claim(self) -> Lease | None:
        self.claimed = None
        while self.run_one() and self.claimed is None:
            pass
        return self.claimed


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_search_with_something_to_propose_has_work_too(database: Database, workers: int, tmp_path: Path) -> None:
    pool, worker = Pool(database, workers, seed=10 + workers), Claiming(database, worker_settings(tmp_path))
    for _ in range(40):
        pool.change()
        if pool.drawn.random() < 0.3:
            propose_next(database, count=3)
        if len(pool.held) < workers:
            lease = worker.next_claim()
            wanted, in_order = pool.wanted(), pool.in_order()
            served = next((each for each in in_order if lease and lease.evaluation_id in wanted[each]), None)
            before = in_order[: None if served is None else in_order.index(served)]
            with database.read() as session:
                wishing = [each for each in before if situation_of(session, session.get_one(Search, each)).next_wish()]
            assert wishing == [], "they come first, and have something to propose"
            running = {each.evaluation_id for each in (*pool.held, *([lease] if lease else []))}
            lost = {each.id for each in rows(database, Evaluation) if each.fruitless_attempts >= 3}
            assert not any(wanted[each] - running - lost for each in before), "they come first, and have work"
            if lease is not None:
                pool.note(lease, wanted)


def test_a_search_of_high_priority_waits_for_no_queue(database: Database, tmp_path: Path) -> None:
    low = post(database, proposed=True, widths=[3], seeds=list(range(12)), priority=-100)
    worker = Claiming(database, worker_settings(tmp_path))
    ran = [worker.next_claim()]
    high = post(database, widths=[4, 5], seeds=[0], priority=100)
    ran += [worker.next_claim() for _ in range(3)]
    evaluations = [each.evaluation_id for each in ran if each]
    wanting = [rows(database, Proposal, evaluation_id=each)[0].search_id for each in evaluations]
    assert wanting == [low, high, high, low]


def test_searches_of_one_priority_share_a_worker(database: Database, tmp_path: Path) -> None:
    first = post(database, proposed=True, widths=[3], seeds=list(range(6)))
    second = post(database, widths=[4, 5, 6])
    worker, served = Claiming(database, worker_settings(tmp_path)), []
    while lease := worker.next_claim():
        served.append(rows(database, Proposal, evaluation_id=lease.evaluation_id)[0].search_id)
        work(database, lease)
    assert served == [first, second] * 3 + [first] * 3


def test_of_equal_searches_the_one_with_the_fewest_running_comes_before_the_one_that_waited_longest(
    database: Database,
) -> None:
    first = post(database, proposed=True, widths=[3], seeds=[0, 1, 2])
    held = [claim(database), claim(database)]
    second = post(database, proposed=True, widths=[4], seeds=[0, 1, 2])
    work(database, claim(database))  # of the second: the first is served longer ago from here on
    after = [claim(database) for _ in range(3)]
    wanting = [rows(database, Proposal, evaluation_id=each.evaluation_id)[0].search_id for each in (*held, *after)]
    assert wanting == [first, first, second, second, first]


def test_a_search_that_has_all_it_wanted_of_an_evaluation_lends_it_no_priority(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4], priority=100)
    done, held = claim(database), claim(database)  # held keeps the search running
    work(database, done)
    post(database, proposed=True, widths=[5])
    post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4"], priority=-100)
    (middle,) = rows(database, Evaluation, width=5)
    assert [claim(database).evaluation_id for _ in range(2)] == [middle.id, done.evaluation_id]
    assert held.evaluation_id != done.evaluation_id


def test_an_evaluation_that_several_want_has_the_highest_of_their_priorities(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4, 5], priority=-1)
    post(database, proposed=True, widths=[5], priority=1, engine="ray")
    claimed = [rows(database, Evaluation, id=claim(database).evaluation_id)[0].width for _ in range(3)]
    assert claimed == [5, 3, 4]


@pytest.mark.parametrize("placed_ahead", [0, 1])
def test_ray_places_in_the_same_order(database: Database, placed_ahead: int) -> None:
    """What is placed, and its trial has yet to claim, counts as running."""
    post(database, proposed=True, widths=[3, 4], engine="ray")
    post(database, proposed=True, widths=[5, 6], engine="ray")
    post(database, proposed=True, widths=[7], engine="ray", priority=1)

    def first(placed: list[tuple[int, int]]) -> Evaluation:
        with database.read() as session:
            return leases.claimable(session, "ray", 1, placed)[0]

    placed: list[tuple[int, int]] = []
    widths = []
    for _ in range(5):
        evaluation = first(placed)
        widths.append(evaluation.width)
        if placed_ahead:
            placed.append((evaluation.id, evaluation.attempt))
        else:
            with database.write() as session:
                leases.claim_evaluation(session, evaluation.id, "trial", 1000.0)
    assert widths == [7, 3, 5, 4, 6]


def test_ray_asks_a_search_that_comes_first_before_it_places_what_is_queued(database: Database) -> None:
    suggestions = pytest.importorskip("searcher.ray_tune.suggestions")
    post(database, proposed=True, widths=[3], seeds=[0, 1, 2], engine="ray")
    post(database, widths=[4, 5], sampler="grid", priority=1, engine="ray")
    placed: list[tuple[int, int]] = []
    widths = []
    place: Callable[..., Evaluation | None] = suggestions.next_evaluation
    while evaluation := place(database, placed):
        placed.append((evaluation.id, evaluation.attempt))
        widths.append(evaluation.width)
    assert widths == [4, 5, 3, 3, 3]


def test_what_is_proposed_ahead_is_proposed_in_the_same_order(database: Database) -> None:
    first = post(database, widths=[3, 4, 5])
    propose_candidates(database, first, most=1)
    claim(database)
    post(database, widths=[6], priority=1)
    third = post(database, widths=[7])
    proposed = []
    for _ in range(3):
        before = {(each.search_id, each.candidate_id) for each in rows(database, Proposal)}
        assert propose_next(database)
        proposed += [
            each.search_id for each in rows(database, Proposal) if (each.search_id, each.candidate_id) not in before
        ]
    assert proposed == [third - 1, third, first]


def test_while_another_proposes_for_a_search_that_comes_first_nothing_of_others_is_claimed(
    postgres_database: Database, tmp_path: Path
) -> None:
    database = postgres_database
    post(database, proposed=True, widths=[3], seeds=[0, 1], priority=-1)
    post(database, widths=[4])
    worker = Claiming(database, worker_settings(tmp_path))
    with database.turn(1) as mine:
        assert mine
        assert worker.next_claim() is None
    first = worker.next_claim()
    with database.turn(1):  # that search has nothing to propose any more, which takes no turn to find
        second = worker.next_claim()
    widths = [rows(database, Evaluation, id=lease.evaluation_id)[0].width for lease in (first, second) if lease]
    assert widths == [4, 3]
