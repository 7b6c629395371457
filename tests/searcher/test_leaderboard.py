"""Leaderboards, against a ranking by hand over made-up results."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import scipy.stats
from building import recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcore import FLOAT, Architecture, BitWidths, Recipe, Task, describe, get_task
from qcore import Stage as StagePlan
from qcore.cost import parameters
from qcore.ranking import RankInterval
from qcore.stages import NUMERICS_VERSION
from searcher.board import Filters
from searcher.counting import count_uncounted
from searcher.leaderboard import Entry, leaderboard_of_task, search_leaderboard
from searcher.named import resolve_recipe
from searcher.plan import plan
from searcher.request import SearchRequest
from searcher.searches import create_search
from searcher.standings import Accuracy
from searcher.tables import Evaluation, Stage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from searcher.database import Database

TASK = get_task("digits")
RECIPE = resolve_recipe(TASK, None)
W2A2, W2AF = BitWidths(2, 2), BitWidths(2, None)
_epochs = itertools.count(1)


@dataclass(frozen=True)
class Result:
    """How one stage ended; a validation accuracy of None is a diverged run."""

    validation: float | None
    test: float | None = 50.0
    seconds: float = 1.0


def _store(
    session: Session,
    name: str,
    results: dict[str, Result],
    *,
    seed: int = 0,
    task: Task = TASK,
    recipe: Recipe = RECIPE,
    numerics_version: int = NUMERICS_VERSION,
    pending: Iterable[str] = (),
    status: str = "done",
) -> int:
    """Stores an evaluation with its stages, as a worker would have; returns its id."""
    architecture = Architecture.parse(name)
    float_plan = StagePlan(task, architecture, recipe, seed)
    evaluation = Evaluation(
        float_key=float_plan.key,
        task=task.name,
        task_version=task.version,
        architecture=name,
        block=architecture.block,
        depth=architecture.depth,
        width=architecture.width,
        parameters=parameters(architecture.layers(task)),
        seed=seed,
        numerics_version=numerics_version,
        float_recipe_hash=recipe.float_part.hash(),
        status=status,
    )
    session.add(evaluation)
    session.flush()
    for bits in (*results, *pending):
        stage = replace(float_plan, bit_widths=BitWidths.parse(bits))
        result = results.get(bits)
        session.add(
            Stage(
                key=stage.key,
                evaluation_id=evaluation.id,
                bit_widths=bits,
                recipe=recipe.model_dump(mode="json"),
                retraining_recipe_hash=None if bits == "float" else recipe.retraining.hash(),
                status="pending" if result is None else "done" if result.validation is not None else "diverged",
                epochs=stage.epochs,
                validation_accuracy=result and result.validation,
                test_accuracy=result.test if result and result.validation is not None else None,
                train_seconds=result and result.seconds,
            )
        )
    session.flush()
    return evaluation.id


def _board(session: Session, bit_widths: tuple[BitWidths, ...] = (W2A2,), **filters: Any) -> list[Entry]:
    count_uncounted(session)
    return leaderboard_of_task(session, TASK, filters.pop("recipe", RECIPE), bit_widths, Filters(**filters)).entries


def _ranks(entries: list[Entry]) -> list[tuple[int, str]]:
    return [(entry.rank, entry.architecture) for entry in entries]


# Quarters add up without rounding: equal means are equal in every order of summation.
ACCURACIES = st.none() | st.integers(0, 400).map(lambda quarters: quarters / 4)
NAMES = [f"basic-L8-D{width}" for width in range(3, 11)]
BOARDS = st.dictionaries(
    st.sampled_from(NAMES),
    st.dictionaries(st.integers(0, 3), st.tuples(ACCURACIES, st.integers(0, 100)), min_size=1, max_size=3),
    max_size=8,
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(board=BOARDS)
def test_the_mean_validation_accuracy_at_the_first_bit_widths_ranks(
    database: Database, board: dict[str, dict[int, tuple[float | None, int]]]
) -> None:
    with database.write() as session:
        for name, seeds in board.items():
            for seed, (validation, test) in seeds.items():
                _store(
                    session,
                    name,
                    {
                        "float": Result(100.0 - test),
                        "W2A2": Result(validation, float(test)),
                        "W2AF": Result(float(test)),
                    },
                    seed=seed,
                )
        entries = _board(session, (W2A2, W2AF))
        session.rollback()

    means: dict[str, Fraction | None] = {}
    for name, seeds in board.items():
        found = [validation for validation, _ in seeds.values()]
        means[name] = None if None in found else sum(map(Fraction, found)) / len(found)
    worth = {name: Fraction(-1) if mean is None else mean for name, mean in means.items()}
    expected = {name: 1 + sum(other > worth[name] for other in worth.values()) for name in board}
    assert {entry.architecture: entry.rank for entry in entries} == expected
    assert [entry.rank for entry in entries] == sorted(expected.values())
    for entry in entries:
        assert entry.seeds == sorted(board[entry.architecture])
        assert entry.diverged == sum(validation is None for validation, _ in board[entry.architecture].values())
        mean = means[entry.architecture]
        assert (entry.ranking_accuracy is None) == (mean is None)
        assert mean is None or entry.ranking_accuracy == pytest.approx(float(mean))
        assert entry.ranking_accuracies == [board[entry.architecture][seed][0] for seed in entry.seeds]
        assert entry.ranks.lowest <= entry.rank <= entry.ranks.highest


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    validation=st.lists(st.integers(0, 100), min_size=5, max_size=5),
    tests=st.tuples(*[st.lists(st.integers(0, 100), min_size=5, max_size=5)] * 2),
)
def test_test_accuracy_never_influences_the_rank(
    database: Database, validation: list[int], tests: tuple[list[int], list[int]]
) -> None:
    boards = []
    for test in tests:
        with database.write() as session:
            for name, held_out, shown in zip(NAMES, validation, test, strict=False):
                results = {bits: Result(float(held_out), float(shown)) for bits in ("float", "W2A2")}
                _store(session, name, results)
            boards.append(_board(session))
            session.rollback()
    assert _ranks(boards[0]) == _ranks(boards[1])
    assert {entry.architecture: entry.accuracy["W2A2"].test for entry in boards[1]} == dict(
        zip(NAMES, map(float, tests[1]), strict=False)
    )


def test_ties_share_a_rank_and_the_next_rank_is_left_out(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        for name, accuracy in zip(NAMES, [80.0, 90.0, 90.0, 70.0, 70.0, 60.0], strict=False):
            _store(session, name, {"W2A2": Result(accuracy)})
        entries = _board(session)
    assert [entry.rank for entry in entries] == [1, 1, 3, 4, 4, 6]
    smaller_first = ["basic-L8-D4", "basic-L8-D5", "basic-L8-D3", "basic-L8-D6", "basic-L8-D7", "basic-L8-D8"]
    assert [entry.architecture for entry in entries] == smaller_first


def test_an_architecture_with_a_diverged_seed_ranks_last_whatever_the_others_got(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        _store(session, NAMES[0], {"W2A2": Result(99.0)}, seed=0)
        _store(session, NAMES[0], {"W2A2": Result(None)}, seed=1)
        _store(session, NAMES[1], {"W2A2": Result(0.0)}, seed=0)
        _store(session, NAMES[2], {"W2A2": Result(None)}, seed=0)
        entries = _board(session)
    assert _ranks(entries) == [(1, NAMES[1]), (2, NAMES[0]), (2, NAMES[2])]
    assert [entry.diverged for entry in entries] == [0, 1, 1]
    assert entries[1].accuracy["W2A2"].validation == 99.0
    assert entries[2].accuracy["W2A2"] == Accuracy(None, None)


def test_an_entry_holds_means_over_seeds_drop_and_seconds(database: Database) -> None:
    with database.write() as session:
        first = _store(
            session,
            NAMES[2],
            {"float": Result(97.0, 96.0, 10.0), "W2A2": Result(80.0, 70.0, 4.0), "W2AF": Result(85.0, 84.0, 2.0)},
            seed=5,
        )
        second = _store(session, NAMES[2], {"float": Result(95.0, 92.0, 11.0), "W2A2": Result(82.0, 76.0, 5.0)}, seed=9)
        (entry,) = _board(session, (W2A2, W2AF))
    assert list(entry.accuracy) == ["float", "W2A2", "W2AF"]
    assert entry.accuracy["float"] == Accuracy(96.0, 94.0)
    assert entry.accuracy["W2A2"] == Accuracy(81.0, 73.0)
    assert entry.accuracy["W2AF"] == Accuracy(85.0, 84.0)
    assert (entry.ranking_accuracy, entry.drop, entry.train_seconds) == (81.0, 21.0, 30.0)
    assert (entry.seeds, entry.evaluations, entry.diverged) == ([5, 9], [first, second], 0)
    assert (entry.architecture, entry.block, entry.depth, entry.width) == ("basic-L8-D5", "basic", 8, 5)
    assert entry.parameters == parameters(Architecture("basic", 8, 5).layers(TASK))


@pytest.mark.parametrize("counted", [True, False], ids=["standings", "computed"])
def test_costs_are_those_of_the_described_network_whether_read_from_standings_or_not(
    database: Database, counted: bool
) -> None:
    """An architecture without a result at all of the bit widths has no standing to read them from."""
    others = {"W2AF": Result(85.0)} if counted else {}
    with database.write() as session:
        for name in NAMES:
            _store(session, name, {"float": Result(97.0), "W2A2": Result(80.0)} | others)
        entries = _board(session, (W2A2, W2AF))
    for entry in entries:
        told = describe(Architecture.parse(entry.architecture), TASK, (W2A2, W2AF), RECIPE.retraining.quantizers)
        assert entry.macs == told.macs
        assert dict(entry.bit_operations) == told.bit_operations
        assert dict(entry.model_bytes) == told.model_bytes


def test_entries_of_several_seeds_have_t_intervals_and_the_ranks_they_leave(database: Database) -> None:
    accuracies = {NAMES[0]: [90.0, 90.4], NAMES[1]: [80.0, 80.2, 80.4], NAMES[2]: [80.1]}
    with database.write() as session:
        for name, values in accuracies.items():
            for seed, value in enumerate(values):
                _store(session, name, {"W2A2": Result(value)}, seed=seed)
        entries = _board(session)
    reach = scipy.stats.t.ppf(0.975, 3) * ((0.08 + 0.08) / 3) ** 0.5
    for entry in entries:
        values = accuracies[entry.architecture]
        assert entry.interval is not None
        assert entry.interval.kind == "t"
        mean = sum(values) / len(values)
        expected = (mean - reach / len(values) ** 0.5, mean + reach / len(values) ** 0.5)
        assert (entry.interval.low, entry.interval.high) == pytest.approx(expected)
    assert [entry.ranks for entry in entries] == [RankInterval(1, 1), RankInterval(2, 3), RankInterval(2, 3)]


def test_entries_of_one_seed_each_have_binomial_intervals_of_what_the_recipe_holds_out(database: Database) -> None:
    request = SearchRequest(
        task="digits",
        parameter_budget=50_000,
        architectures=NAMES[:2],
        bit_widths=["W2A2"],
        recipe={"float_part": {"validation_share": 0.1}},
    )
    planned = plan(request)
    with database.write() as session:
        for name, right in zip(NAMES, (130, 99), strict=False):
            for used, held_out in ((RECIPE, 288), (planned.recipe, 144)):
                _store(session, name, {"W2A2": Result(100 * right / held_out)}, recipe=used)
        boards = {288: _board(session), 144: search_leaderboard(session, create_search(session, planned))}
    for held_out, entries in boards.items():
        for entry, right in zip(entries, (130, 99), strict=True):
            expected = scipy.stats.binomtest(right, held_out).proportion_ci(0.95, method="wilson")
            assert entry.interval is not None
            assert entry.interval.kind == "binomial"
            assert (entry.interval.low, entry.interval.high) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_diverged_entries_share_the_last_ranks_and_have_no_interval(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        for seed, (stable, broken) in enumerate([(70.0, 99.0), (70.4, None), (70.2, 50.0)]):
            _store(session, NAMES[0], {"W2A2": Result(stable)}, seed=seed)
            _store(session, NAMES[1], {"W2A2": Result(broken)}, seed=seed)
        _store(session, NAMES[2], {"W2A2": Result(None)})
        entries = _board(session)
    assert [entry.ranks for entry in entries] == [RankInterval(1, 1), RankInterval(2, 3), RankInterval(2, 3)]
    assert [entry.interval is None for entry in entries] == [False, True, True]
    # What a diverged architecture's other seeds got makes no one else's interval wider.
    assert entries[0].interval is not None
    assert entries[0].interval.high - 70.2 == pytest.approx(scipy.stats.t.ppf(0.975, 2) * 0.2 / 3**0.5)


def test_a_metric_that_is_no_share_of_examples_has_no_interval_of_one_seed(sqlite_database: Database) -> None:
    segmentation = replace(TASK, metric="mIOU")
    with sqlite_database.write() as session:
        for name, accuracy in zip(NAMES[:2], (80.0, 20.0), strict=True):
            _store(session, name, {"W2A2": Result(accuracy)})
        count_uncounted(session)
        entries = leaderboard_of_task(session, segmentation, RECIPE, [W2A2]).entries
    assert [(entry.interval, entry.ranks) for entry in entries] == [(None, RankInterval(1, 2))] * 2


def test_the_float_orders_agreement_is_kendalls_tau_of_validation_accuracies(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        for name, in_float, ranked in zip(NAMES, (99.0, 98.0, 97.0, 96.0), (70.0, 80.0, 90.0, None), strict=False):
            _store(session, name, {"float": Result(in_float, 10.0), "W2A2": Result(ranked, 10.0)})
        count_uncounted(session)
        least = [parameters(Architecture.parse(name).layers(TASK)) for name in NAMES]
        agreements = [
            leaderboard_of_task(session, TASK, RECIPE, [W2A2], Filters(max_parameters=most)).order_agreement
            for most in (least[3], least[1], least[0], 1)
        ]
    assert agreements == [-1.0, -1.0, None, None]  # the diverged one has no place in the ranking order


def test_there_is_no_drop_without_both_accuracies(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        _store(session, NAMES[0], {"W2A2": Result(80.0)})
        _store(session, NAMES[1], {"float": Result(None), "W2A2": Result(None)})
        assert [entry.drop for entry in _board(session)] == [None, None]


def test_the_first_of_the_bit_widths_ranks(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        _store(session, NAMES[0], {"W2A2": Result(80.0), "W2AF": Result(81.0)})
        _store(session, NAMES[1], {"W2A2": Result(70.0), "W2AF": Result(91.0)})
        _store(session, NAMES[2], {"W2AF": Result(99.0)})
        assert _ranks(_board(session, (W2A2, W2AF))) == [(1, NAMES[0]), (2, NAMES[1])]
        by_other = _board(session, (W2AF, W2A2))
    assert _ranks(by_other) == [(1, NAMES[2]), (2, NAMES[1]), (3, NAMES[0])]
    assert by_other[0].accuracy["W2A2"] == Accuracy(None, None)


def test_a_seed_whose_ranking_stage_is_pending_is_not_there_yet(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        _store(session, NAMES[0], {"float": Result(90.0), "W2A2": Result(80.0)}, seed=0)
        _store(session, NAMES[0], {"float": Result(10.0)}, seed=1, pending=["W2A2"], status="running")
        _store(session, NAMES[1], {"float": Result(99.0)}, pending=["W2A2"], status="running")
        (entry,) = _board(session)
    assert (entry.architecture, entry.seeds) == (NAMES[0], [0])
    assert entry.accuracy["float"].validation == 90.0


def test_filters_leave_out_other_blocks_and_larger_networks(database: Database) -> None:
    with database.write() as session:
        for name in (*NAMES[:3], "preact-L8-D3", "depthwise-L11-D3"):
            _store(session, name, {"W2A2": Result(50.0)})
        most = parameters(Architecture("basic", 8, 4).layers(TASK))
        by_size = _board(session, max_parameters=most)
        by_both = _board(session, max_parameters=most - 1, block="basic")
        by_block = _board(session, block="depthwise")
        by_nothing = _board(session)
        assert _board(session, block="plain") == _board(session, max_parameters=0) == []
    assert {entry.architecture for entry in by_size} == {*NAMES[:2], "preact-L8-D3", "depthwise-L11-D3"}
    assert [entry.architecture for entry in by_both] == [NAMES[0]]
    assert [entry.architecture for entry in by_block] == ["depthwise-L11-D3"]
    assert len(by_nothing) == 5


def _changed(part: str) -> Recipe:
    fields = {"task": "digits", "parameter_budget": 9_000, "recipe": {part: recipe()[part]}}
    return plan(SearchRequest(**fields)).recipe


def test_results_of_another_float_recipe_do_not_appear(database: Database) -> None:
    changed = _changed("float_part")
    with database.write() as session:
        _store(session, NAMES[0], {"float": Result(90.0), "W2A2": Result(80.0)})
        _store(session, NAMES[1], {"float": Result(90.0), "W2A2": Result(70.0)}, recipe=changed)
        assert _ranks(_board(session)) == [(1, NAMES[0])]
        assert _ranks(_board(session, recipe=changed)) == [(1, NAMES[1])]
        session.rollback()


def test_results_of_another_retraining_recipe_do_not_appear(database: Database) -> None:
    changed = _changed("retraining")
    with database.write() as session:
        evaluation_id = _store(session, NAMES[0], {"float": Result(90.0), "W2A2": Result(80.0)})
        session.add(
            Stage(
                key=StagePlan(TASK, Architecture.parse(NAMES[0]), changed, 0, W2A2).key,
                evaluation_id=evaluation_id,
                bit_widths="W2A2",
                recipe=changed.model_dump(mode="json"),
                retraining_recipe_hash=changed.retraining.hash(),
                status="done",
                epochs=1,
                validation_accuracy=30.0,
                test_accuracy=20.0,
            )
        )
        session.flush()
        (ours,), (theirs,) = _board(session), _board(session, recipe=changed)
        assert _board(session, recipe=_changed("float_part")) == []
    assert (ours.accuracy["W2A2"].validation, theirs.accuracy["W2A2"].validation) == (80.0, 30.0)
    assert ours.accuracy["float"] == theirs.accuracy["float"]


@pytest.mark.parametrize("other", [replace(TASK, version="0"), get_task("fashion-mnist")])
def test_results_of_another_task_or_version_do_not_appear(sqlite_database: Database, other: Task) -> None:
    with sqlite_database.write() as session:
        _store(session, NAMES[0], {"W2A2": Result(80.0)}, task=other)
        assert _board(session) == []
        count_uncounted(session)
        assert [entry.architecture for entry in leaderboard_of_task(session, other, RECIPE, [W2A2]).entries] == NAMES[
            :1
        ]


def test_results_of_another_numerics_version_do_not_appear(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        _store(session, NAMES[0], {"W2A2": Result(80.0)}, numerics_version=NUMERICS_VERSION - 1)
        assert _board(session) == []


def test_a_search_ranks_its_own_candidates_and_seeds_only(database: Database) -> None:
    request = SearchRequest(
        task="digits",
        parameter_budget=50_000,
        blocks=["basic"],
        depths=[8],
        widths=[3, 4],
        bit_widths=["W2AF", "W2A2"],
        seeds=[0, 1],
    )
    with database.write() as session:
        for width, seed, accuracy in ((3, 0, 60.0), (3, 1, 70.0), (3, 2, 99.0), (4, 0, 66.0), (5, 0, 90.0)):
            results = {bits: Result(accuracy) for bits in ("float", "W2A2", "W2AF", "W8A8")}
            _store(session, f"basic-L8-D{width}", results, seed=seed)
        search = create_search(session, plan(request))
        entries = search_leaderboard(session, search)
    assert _ranks(entries) == [(1, NAMES[1]), (2, NAMES[0])]
    assert [(entry.ranking_accuracy, entry.seeds) for entry in entries] == [(66.0, [0]), (65.0, [0, 1])]
    assert list(entries[0].accuracy) == [str(FLOAT), "W2AF", "W2A2"]


def test_a_leaderboard_without_results_is_empty(database: Database) -> None:
    with database.read() as session:
        assert _board(session) == []
