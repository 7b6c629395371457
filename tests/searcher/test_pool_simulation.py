"""The simulation of large pools agrees with what can be said by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pool_costs import OUTPUT, Cost
from benchmarks.pool_simulation import Costs, Pool, Simulation

COSTS = Costs(
    by_purpose={
        "proposing": Cost(transactions=1, statements=1, database_ms=1.0, locked_ms=1.0),
        "between": Cost(transactions=2, statements=4, database_ms=9.0, locked_ms=4.0),
        "evaluation": Cost(transactions=5, statements=20, database_ms=20.0, locked_ms=20.0),
        "renewal": Cost(transactions=1, statements=1, database_ms=1.0),
        "renewal_at_start": Cost(),
        "epoch": Cost(transactions=1, statements=2, database_ms=2.0),
    },
    claim_ms=1.0,
    server_share=0.5,
    client_ms=0.0,
)
SMALL = Pool(workers=1, seconds=10.0, epochs=2, cores=4, round_trip_ms=1.0)


def test_a_single_worker_waits_for_nobody() -> None:
    found = Simulation(SMALL, COSTS).run()
    assert found["claim_ms_median"] == pytest.approx(1.0 + 1.0)
    assert found["next_evaluation_ms_p99"] == pytest.approx(10.0 + 6.0)  # and six ways there and back
    assert found["outside_percent"] == pytest.approx(100 * 0.016 / 10.056, rel=0.5)
    assert found["evaluations_a_second"] == pytest.approx(0.1, rel=0.4)


@pytest.mark.parametrize("searches", [1, 2])
def test_no_more_evaluations_end_than_the_rows_of_their_searches_allow(searches: int) -> None:
    pool = replace(SMALL, workers=800, seconds=5.0, searches=searches, cores=64, round_trip_ms=0.0)
    found = Simulation(pool, COSTS).run()
    most = searches / 0.025  # the row is locked for 25 ms an evaluation
    assert 0.85 * most < found["evaluations_a_second"] <= 1.02 * most
    assert found["locked_percent"] > 95
    assert found["not_training_percent"] > 10


@pytest.mark.parametrize("cores", [1, 2])
def test_no_more_evaluations_end_than_the_databases_cores_allow(cores: int) -> None:
    unlocked = {name: replace(cost, locked_ms=0.0) for name, cost in COSTS.by_purpose.items()}
    pool = replace(SMALL, workers=1000, seconds=3.0, cores=cores)
    found = Simulation(pool, replace(COSTS, by_purpose=unlocked)).run()
    most = cores / 0.015  # half of 30 ms
    assert 0.85 * most < found["evaluations_a_second"] <= 1.02 * most
    assert found["cores_percent"] > 95


def test_longer_evaluations_leave_more_of_the_time_for_training() -> None:
    short, long = (
        Simulation(replace(SMALL, workers=200, seconds=seconds), COSTS).run()["not_training_percent"]
        for seconds in (2.0, 60.0)
    )
    assert short > 10 > 1 > long


def test_measured_costs_are_there_for_it() -> None:
    costs = Costs.read(OUTPUT)
    asked = ("proposing", "between", "evaluation", "renewal", "epoch")
    assert all(costs.by_purpose[each].database_ms > 0 for each in asked)
