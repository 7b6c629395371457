"""Searches replayed on recorded evaluations: successive halving finds what training everything would."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.halving.figure import COSTS, gaps
from benchmarks.halving.record import FRACTIONS
from benchmarks.halving.replay import PROMOTED_SHARE, RUNGS, Table, replayed, summary
from searcher.planning import Strategy

REPLAYS = 50


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.read()


def test_every_candidate_is_recorded_at_every_fraction_from_three_seeds(table: Table) -> None:
    for candidate in table.candidates:
        for fraction in FRACTIONS:
            assert [row["seed"] for row in table.rows[candidate.name, fraction]] == [0, 1, 2]


def test_halving_ends_near_the_best_for_less_than_a_third_of_what_everything_costs(table: Table) -> None:
    strategy = Strategy(promoted_share=PROMOTED_SHARE)
    found = summary(table, [replayed(table, strategy, RUNGS, "random", None, seed) for seed in range(REPLAYS)])
    assert found["within_margin_percent"] >= 90
    assert found["most_cost"] <= 0.30


def test_training_everything_trains_each_candidate_and_costs_one(table: Table) -> None:
    found = [replayed(table, Strategy(), (), "grid", None, seed) for seed in range(5)]
    assert [each.evaluations for each in found] == [len(table.candidates)] * 5
    assert [each.cost for each in found] == pytest.approx([1.0] * 5)


def test_the_path_of_a_replay_ends_with_its_choice_and_is_infinitely_far_before_its_first(table: Table) -> None:
    replay = replayed(table, Strategy(promoted_share=PROMOTED_SHARE), RUNGS, "random", None, 0)
    assert replay.choices[-1] == (replay.cost, replay.chosen)
    (path,) = gaps(table, [replay])
    assert np.isinf(path[replay.choices[0][0] > COSTS]).all()
    assert path[-1] == table.regret(replay.chosen)
    assert np.isfinite(path[replay.choices[0][0] <= COSTS]).all()
