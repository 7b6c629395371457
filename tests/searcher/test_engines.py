"""Every engine on every database keeps one contract: workers or Ray Tune on two nodes, SQLite or PostgreSQL.

Evaluations are played (``played``); ``test_placing`` trains. All tests of a combination share a pool of three places,
one of which another search holds all the while, so that Ray Tune goes on. Searches have seeds of their own; what needs
nothing but to run is posted at once (``POSTED``), and only looked at in tests.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from collections import Counter
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import played
import pytest
from building import end_lease, post, recipe, rows, run_out, stages_of, status_of
from sqlalchemy import update
from working import MOST_SECONDS, log_epochs, noted, wait_until

from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.leaderboard import search_leaderboard
from searcher.leases import MOST_ATTEMPTS, Lease
from searcher.ray_tune import driver
from searcher.ray_tune.cluster import Share
from searcher.request import Limits
from searcher.searches import cancel_search, extend_search
from searcher.tables import Candidate, Evaluation, Event, Proposal, Search
from searcher.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from searcher.leaderboard import Entry

PLACES = 3
FREE_PLACES = PLACES - 1
ONE_CORE = Share(cpus=1, memory_bytes=2**28)
Told = Counter[str]

POSTED: dict[str, dict[str, Any]] = {
    "all": {"seeds": [10, 11], "bit_widths": ["W2A2", "W2AF"]},
    "rungs": {"seeds": [12], "rungs": [0.25], "promoted_share": 0.4, "recipe": recipe(4, 4), "sampler": "grid"},
    "within a budget": {"seeds": [20], "parameter_budget": 15_000, "widths": None, "depths": [8, 14, 20, 56]},
    "overlapping": {"seeds": [30], "widths": [3, 4, 5]},
    "the other": {"seeds": [30], "widths": [4, 5, 6]},
    "limited": {"seeds": [50], "max_evaluations": 2, "sampler": "grid"},
    "failing": {"seeds": [110]},
}
GOES = {(3, 110): played.FAILS, (4, 110): played.DIVERGES}
"""How evaluations of these searches go that do not go as usual, by width and seed."""


@dataclass(frozen=True)
class Pool:
    """An engine with a database and its places."""

    engine: str
    database: Database
    folder: Path
    searches: dict[str, int] = field(default_factory=dict)
    """Ids of what was posted at once."""

    def post(self, **fields: Any) -> int:
        return post(self.database, engine=self.engine, **fields)

    def tell(self, how: str | None, widths: Sequence[int], seed: int) -> None:
        for width in widths:
            played.tell(self.folder, f"basic-L8-D{width}", seed, how)

    def search(self, search_id: int) -> Search:
        (found,) = rows(self.database, Search, id=search_id)
        return found  # type: ignore[no-any-return]

    def evaluations(self, seed: int) -> dict[int, Evaluation]:
        """By width."""
        return {each.width: each for each in rows(self.database, Evaluation, seed=seed)}

    def statuses(self, seed: int) -> dict[int, str]:
        return {width: each.status for width, each in self.evaluations(seed).items()}

    def running(self, *seeds: int) -> int:
        return sum(list(self.statuses(seed).values()).count("running") for seed in seeds)

    def wait_for_end(self, *search_ids: int) -> None:
        wait_until(lambda: all(status_of(self.database, each) != "running" for each in search_ids))


@pytest.fixture(
    params=[
        pytest.param(each, id="-".join(each), marks=[pytest.mark.slow] if each[0] == "ray" else [])
        for each in product(["optuna", "ray"], ["sqlite", "postgresql"])
    ],
    scope="module",
)
def pool(
    request: pytest.FixtureRequest,
    fresh_database: Callable[[str], AbstractContextManager[Database]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pool]:
    engine, kind = request.param
    folder = tmp_path_factory.mktemp("pool")
    # Leases do not end by themselves here, however slow the machine is: tests end them.
    settings = WorkerSettings(folder, Artifacts(folder / "artifacts"), poll_seconds=0.05, lease_seconds=3600.0)
    with fresh_database(kind) as database, pytest.MonkeyPatch.context() as patch:
        log_epochs(database)
        if engine == "ray":
            request.getfixturevalue("cluster")
            patch.setattr(driver, "run_trial", played.run_trial)
        found = Pool(engine, database, folder)
        found.tell(played.WAITS, [3], seed=0)
        found.post(seeds=[0], widths=[3], priority=9)
        for (width, seed), how in GOES.items():
            found.tell(how, [width], seed)
        found.searches.update({name: found.post(**fields) for name, fields in POSTED.items()})
        with (_by_ray if engine == "ray" else _by_workers)(database, settings):
            yield found


@pytest.fixture(autouse=True)
def freed(pool: Pool) -> Iterator[None]:
    """A test that fails leaves the places to the next."""
    told = set(pool.folder.glob("*-seed*"))
    posted = {each.id for each in rows(pool.database, Search)}
    yield
    for each in set(pool.folder.glob("*-seed*")) - told:
        each.unlink()
    for search in rows(pool.database, Search, status="running"):
        if search.id not in posted:
            with pool.database.write() as session:
                cancel_search(session, search.id)


@contextmanager
def _by_ray(database: Database, settings: WorkerSettings) -> Iterator[None]:
    running = driver.Driver(database, settings, ONE_CORE)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    yield
    running.stop()
    thread.join(MOST_SECONDS)
    assert not thread.is_alive()


@contextmanager
def _by_workers(database: Database, settings: WorkerSettings) -> Iterator[None]:
    """Processes, each of which is started again where it dies."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["played"])
    url = database.url.render_as_string(hide_password=False)
    stopping, processes = threading.Event(), [None] * PLACES

    def keep(index: int) -> None:
        while not stopping.is_set():
            process = context.Process(target=played.run_worker, args=(url, settings), daemon=True)
            process.start()
            processes[index] = process
            if stopping.is_set():
                process.terminate()
            process.join()

    threads = [threading.Thread(target=keep, args=(index,), daemon=True) for index in range(PLACES)]
    for thread in threads:
        thread.start()
    yield
    stopping.set()
    for process in filter(None, processes):
        process.terminate()
    for thread in threads:
        thread.join(MOST_SECONDS)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def by_hand(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[list[Entry], Told, str | None]]:
    """Leaderboard, events and end of a search that no engine placed: one evaluation after the other, in this thread."""

    def run(**fields: Any) -> tuple[list[Entry], Told, str | None]:
        folder = tmp_path_factory.mktemp("by-hand")
        shutil.copy(sqlite_template, folder / "quantrank.db")
        database = Database(f"sqlite:///{folder / 'quantrank.db'}")
        search_id = post(database, **fields)
        run_out(database)
        found = _entries(database, search_id), _events(database, search_id), rows(database, Search)[0].ended_by
        database.dispose()
        return found

    return run


def _entries(database: Database, search_id: int) -> list[Entry]:
    with database.read() as session:
        entries = search_leaderboard(session, session.get_one(Search, search_id))
    return [replace(each, evaluations=[], train_seconds=0.0) for each in entries]


def _events(database: Database, search_id: int) -> Told:
    """What was told of a search; the order of what several workers do at once is theirs."""
    found = rows(database, Event, search_id=search_id)
    return Counter(
        f"{each.kind} {json.dumps({key: value for key, value in each.data.items() if key != 'evaluation'})}"
        for each in found
    )


@pytest.mark.parametrize("name", ["all", "rungs"])
def test_a_search_gets_the_same_leaderboard_and_events_whoever_places_it(
    pool: Pool, by_hand: Callable[..., Any], name: str
) -> None:
    search_id = pool.searches[name]
    pool.wait_for_end(search_id)
    told = rows(pool.database, Event, search_id=search_id)
    assert (told[0].kind, told[-1].kind) == ("search_created", "search_finished")
    found = _entries(pool.database, search_id), _events(pool.database, search_id), pool.search(search_id).ended_by
    assert found == by_hand(**POSTED[name])


def test_only_candidates_within_the_budget_are_evaluated_and_all_of_them(pool: Pool) -> None:
    search_id = pool.searches["within a budget"]
    pool.wait_for_end(search_id)
    found = {each.architecture: each for each in rows(pool.database, Evaluation, seed=20)}
    assert found.keys() == {each.architecture for each in rows(pool.database, Candidate, search_id=search_id)}
    assert {(each.status, each.attempt) for each in found.values()} == {("done", 1)}
    assert all(each.parameters <= 15_000 for each in found.values())


def test_nothing_is_trained_twice_for_searches_that_want_the_same(pool: Pool) -> None:
    at_once = [pool.searches["overlapping"], pool.searches["the other"]]
    pool.wait_for_end(*at_once)
    later = pool.post(seeds=[30], widths=[3, 6], bit_widths=["W2A2", "WFA2"])
    pool.wait_for_end(later)
    assert [len(_entries(pool.database, each)) for each in (*at_once, later)] == [3, 3, 2]
    stages = {
        (width, bits): stage.id
        for width, evaluation in pool.evaluations(30).items()
        for bits, stage in stages_of(pool.database, evaluation.id).items()
    }
    both = [(width, bits) for width in range(3, 7) for bits in ("float", "W2A2")]
    assert sorted(stages) == sorted([*both, (3, "WFA2"), (6, "WFA2")])
    trained = Counter(stage_id for stage_id, *_ in noted(pool.database))
    assert {each: trained[stage_id] for each, stage_id in stages.items()} == {
        (width, bits): 2 if bits == "float" else 1 for width, bits in stages
    }


def test_what_fails_or_diverges_is_said_to_and_everything_else_stands(pool: Pool) -> None:
    search_id = pool.searches["failing"]
    pool.wait_for_end(search_id)
    assert pool.search(search_id).ended_by == "failures"
    assert pool.statuses(110) == {3: "failed", 4: "done", 5: "done", 6: "done", 7: "done"}
    assert pool.evaluations(110)[3].error == f"ValueError: {played.FAILURE}"
    entries = _entries(pool.database, search_id)
    assert [(each.width, each.diverged, each.ranking_accuracy is None) for each in entries] == [
        (7, 0, False),
        (6, 0, False),
        (5, 0, False),
        (4, 1, True),
    ]


def test_a_cancelled_search_stops_and_leaves_its_places_to_others(pool: Pool) -> None:
    pool.tell(played.WAITS, [3, 4], seed=40)
    cancelled = pool.post(seeds=[40], widths=[3, 4])
    wait_until(lambda: pool.running(40) == FREE_PLACES)
    with pool.database.write() as session:
        cancel_search(session, cancelled)
    pool.tell(played.WAITS, [3, 4], seed=41)
    pool.post(seeds=[41], widths=[3, 4])
    wait_until(lambda: pool.running(41) == FREE_PLACES)
    assert pool.statuses(40) == dict.fromkeys([3, 4], "cancelled")
    assert rows(pool.database, Event, search_id=cancelled)[-1].kind == "search_cancelled"
    assert status_of(pool.database, cancelled) == "cancelled"


def test_what_another_search_wants_goes_on_when_one_is_cancelled(pool: Pool) -> None:
    pool.tell(played.WAITS, [3], seed=45)
    cancelled, other = (pool.post(seeds=[45], widths=[3]) for _ in range(2))
    wait_until(lambda: pool.running(45) == 1 and len(rows(pool.database, Proposal, search_id=other)) == 1)
    with pool.database.write() as session:
        cancel_search(session, cancelled)
    assert pool.statuses(45) == {3: "running"}
    pool.tell(None, [3], seed=45)
    pool.wait_for_end(other)
    assert (pool.statuses(45), pool.evaluations(45)[3].attempt) == ({3: "done"}, 1)


def test_a_limit_of_evaluations_ends_a_search_and_extended_it_goes_on(pool: Pool) -> None:
    search_id = pool.searches["limited"]
    wait_until(lambda: pool.statuses(50) == {3: "done", 4: "done"})
    pool.wait_for_end(search_id)
    assert pool.search(search_id).ended_by == "max_evaluations"
    with pool.database.write() as session:
        extend_search(session, search_id, Limits(max_evaluations=4))
    wait_until(lambda: pool.statuses(50) == dict.fromkeys([3, 4, 5, 6], "done"))
    pool.wait_for_end(search_id)
    assert pool.search(search_id).ended_by == "max_evaluations"


def test_a_time_limit_ends_a_search_with_what_it_has_and_stops_what_runs(pool: Pool) -> None:
    pool.tell(played.WAITS, [4], seed=60)
    search_id = pool.post(seeds=[60], widths=[3, 4], sampler="grid", time_limit_s=1000.0)
    wait_until(lambda: pool.statuses(60) == {3: "done", 4: "running"})
    with pool.database.write() as session:
        session.execute(update(Search).where(Search.id == search_id).values(started_at=Search.started_at - 1000.0))
    pool.wait_for_end(search_id)
    assert pool.search(search_id).ended_by == "time_limit_s"
    assert [each.width for each in _entries(pool.database, search_id)] == [3]
    assert pool.statuses(60) == {3: "done", 4: "cancelled"}
    pool.tell(played.WAITS, [3, 4], seed=61)
    pool.post(seeds=[61], widths=[3, 4])  # every place is free again
    wait_until(lambda: pool.running(61) == FREE_PLACES)


def test_a_target_ends_a_search_once_a_candidate_reaches_it(pool: Pool) -> None:
    pool.tell(played.WAITS, [4], seed=70)
    reached = 50.0 + 3 + 70 / 4 - 10.0  # as played
    search_id = pool.post(seeds=[70], widths=[3, 4], sampler="grid", target_accuracy=reached)
    pool.wait_for_end(search_id)
    assert pool.search(search_id).ended_by == "target_accuracy"
    assert pool.statuses(70) in ({3: "done"}, {3: "done", 4: "cancelled"})  # it may have ended before the second began


def test_the_search_of_higher_priority_has_its_candidates_evaluated_first(pool: Pool) -> None:
    taken = [3, 4, 5]  # one more than there are places: Ray is given one ahead
    pool.tell(played.WAITS, taken, seed=80)
    before = pool.post(seeds=[80], widths=taken)
    wait_until(lambda: pool.running(80) == FREE_PLACES)
    wait_until(lambda: pool.engine == "optuna" or len(pool.statuses(80)) == len(taken))
    low, high = pool.post(seeds=[81]), pool.post(seeds=[82], priority=1)
    pool.tell(None, taken, seed=80)
    pool.wait_for_end(before, low, high)
    events = [each for search_id in (low, high) for each in rows(pool.database, Event, search_id=search_id)]
    proposed = [each for each in sorted(events, key=lambda each: each.id) if each.kind == "candidate_proposed"]
    assert [each.search_id for each in proposed] == [high] * 5 + [low] * 5


def test_what_dies_is_placed_again_when_its_lease_has_ended_until_it_counts_as_lost(pool: Pool) -> None:
    pool.tell(played.DIES_ONCE, [3], seed=100)
    pool.tell(played.DIES, [4], seed=100)
    search_id = pool.post(seeds=[100], widths=[3, 4, 5], recipe=recipe(1, 1))

    def attempts() -> dict[int, int]:
        return {width: each.attempt for width, each in pool.evaluations(100).items()}

    def let_leases_end(*widths: int) -> None:
        for width in widths:
            evaluation = pool.evaluations(100)[width]
            end_lease(pool.database, Lease(evaluation.id, evaluation.lease_token or ""))

    wait_until(lambda: attempts() == {3: 1, 4: 1, 5: 1} and pool.statuses(100)[5] == "done")
    after = pool.post(seeds=[101], widths=[3])  # others go on; what died is nobody's until its lease ends
    pool.wait_for_end(after)
    assert (attempts(), pool.statuses(100)) == ({3: 1, 4: 1, 5: 1}, {3: "running", 4: "running", 5: "done"})
    let_leases_end(3, 4)
    wait_until(lambda: attempts() == {3: 2, 4: 2, 5: 1} and pool.statuses(100)[3] == "done")
    for attempt in range(3, MOST_ATTEMPTS + 1):
        let_leases_end(4)
        wait_until(lambda attempt=attempt: attempts()[4] == attempt)
    let_leases_end(4)
    pool.wait_for_end(search_id)
    assert pool.statuses(100) == {3: "done", 4: "lost", 5: "done"}
    assert attempts() == {3: 2, 4: MOST_ATTEMPTS, 5: 1}
    assert "died 3 times" in (pool.evaluations(100)[4].error or "")
    assert [each.width for each in _entries(pool.database, search_id)] == [5, 3]
