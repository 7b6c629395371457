"""Learning rates against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.learning_rate import cyclic_learning_rate, learning_rate
from qcore.recipe import PAPER_CIFAR10, CyclicSchedule, Schedule


def rates(schedule: Schedule, steps_per_epoch: int, steps: list[int]) -> list[float]:
    return [learning_rate(schedule, step, steps_per_epoch) for step in steps]


def test_steps_multiply_the_rate_by_a_tenth_from_each_milestones_first_step_on() -> None:
    schedule = Schedule(epochs=6, learning_rate=0.4, decay="steps", milestones=(2, 5))
    assert rates(schedule, 10, [0, 19, 20, 49, 50, 59]) == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.004])


def test_the_papers_schedules_fall_at_the_epochs_it_prints() -> None:
    epochs = [0, 99, 100, 149, 150, 199]
    float_rates = rates(PAPER_CIFAR10.float_part.schedule, 391, [epoch * 391 for epoch in epochs])
    assert float_rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    epochs = [0, 49, 50, 79, 80, 99]
    retraining_rates = rates(PAPER_CIFAR10.retraining.schedule, 391, [epoch * 391 for epoch in epochs])
    assert retraining_rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_steps_without_milestones_stay_where_they_are() -> None:
    assert rates(Schedule(epochs=3, decay="steps"), 7, list(range(21))) == [0.1] * 21


def test_a_cosine_falls_from_the_whole_rate_over_its_half_to_zero() -> None:
    schedule = Schedule(epochs=4, learning_rate=0.8)
    # cos(pi/4) = 0.70711, so a quarter of the way 0.8 x 1.70711 / 2 are left.
    assert rates(schedule, 10, [0, 10, 20, 30, 40]) == pytest.approx([0.8, 0.682843, 0.4, 0.117157, 0.0], abs=1e-6)


def test_a_warm_up_rises_linearly_and_the_cosine_begins_after_it() -> None:
    schedule = Schedule(epochs=6, learning_rate=0.8, warmup_epochs=2)
    assert rates(schedule, 2, [0, 1, 2, 3]) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    # Eight steps remain: 4 + 2 is a quarter of them, 4 + 4 a half, 4 + 6 three quarters.
    assert rates(schedule, 2, [4, 6, 8, 10]) == pytest.approx([0.8, 0.682843, 0.4, 0.117157], abs=1e-6)


def test_a_warm_up_does_not_move_the_milestones() -> None:
    schedule = Schedule(epochs=6, learning_rate=0.8, decay="steps", milestones=(3,), warmup_epochs=1)
    assert rates(schedule, 4, [0, 3, 4, 11, 12]) == pytest.approx([0.2, 0.8, 0.8, 0.8, 0.08])


@given(
    st.integers(1, 30),
    st.integers(0, 29),
    st.integers(1, 50),
    st.floats(1e-4, 10),
    st.sampled_from(["steps", "cosine"]),
)
@settings(deadline=None, max_examples=60)
def test_rates_are_positive_and_at_most_the_schedules_and_rise_only_while_warming_up(
    epochs: int, warmup: int, steps_per_epoch: int, rate: float, decay: str
) -> None:
    warmup = min(warmup, epochs - 1)
    schedule = Schedule.model_validate(
        {"epochs": epochs, "warmup_epochs": warmup, "learning_rate": rate, "decay": decay}
    )
    found = rates(schedule, steps_per_epoch, list(range(epochs * steps_per_epoch)))
    assert min(found) > 0
    assert max(found) <= rate * (1 + 1e-15)  # rate * n / n may round up by one unit in the last place
    turn = warmup * steps_per_epoch
    assert found[:turn] == sorted(found[:turn])
    assert found[turn:] == sorted(found[turn:], reverse=True)
    assert found[turn] == pytest.approx(rate)


def test_the_poly_policy_falls_as_a_power_of_what_is_left() -> None:
    schedule = Schedule(epochs=4, learning_rate=0.5, decay="poly")
    left = [1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates(schedule, 10, [0, 10, 20, 30, 40]) == pytest.approx([0.5 * part**0.9 for part in left])
    assert rates(Schedule(epochs=4, learning_rate=0.5, decay="poly", poly_power=1), 10, [10]) == pytest.approx([0.375])


# Appendix B: {1.0, sqrt(0.1), 0.1, 0.1 sqrt(0.1), 0.01, 0.1 sqrt(0.1), 0.1, sqrt(0.1)}.
APPENDIX_B = [1.0, 0.31622777, 0.1, 0.031622777, 0.01, 0.031622777, 0.1, 0.31622777]


def test_cyclic_factors_are_those_of_the_appendix_epoch_by_epoch_through_five_cycles() -> None:
    schedule = CyclicSchedule()
    for base in (1e-3, 1e-4):
        based = schedule.model_copy(update={"base_learning_rate": base})
        for epoch in range(schedule.epochs):
            expected = base * APPENDIX_B[epoch % 8]
            for step in (epoch * 391, epoch * 391 + 390):
                assert cyclic_learning_rate(based, step, 391) == pytest.approx(expected)
    assert schedule.epochs == 5 * schedule.cycle_epochs


@given(cycle_epochs=st.integers(1, 40), steps_per_epoch=st.integers(8, 200), step=st.integers(0, 10_000))
def test_a_cycle_of_any_length_has_eight_equal_parts(cycle_epochs: int, steps_per_epoch: int, step: int) -> None:
    cycle = cycle_epochs * steps_per_epoch
    part = 8 * (step % cycle) // cycle
    schedule = CyclicSchedule(epochs=40, cycle_epochs=cycle_epochs, base_learning_rate=1.0)
    assert cyclic_learning_rate(schedule, step, steps_per_epoch) == pytest.approx(APPENDIX_B[part])
