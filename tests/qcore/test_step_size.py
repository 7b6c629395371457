"""Step sizes against brute force: every ternary assignment, and a dense search where there are more levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar

import qcore.step_size
from qcore import l2_optimal_step, quantize_weight
from qcore.levels import Levels, weight_levels

Weights = npt.NDArray[np.float32]


def symmetric(bits: int) -> Levels:
    return weight_levels("symmetric", bits)


def found_step(weights: Weights, bits: int) -> float:
    return float(l2_optimal_step(torch.from_numpy(weights), symmetric(bits)))


def squared_error(weights: Weights, step: float, bits: int) -> float:
    most, w = 2 ** (bits - 1) - 1, weights.astype(np.float64)
    return float(np.sum((w - step * np.clip(np.rint(w / step), -most, most)) ** 2))


def least_ternary_error(weights: Weights) -> float:
    """Of all choices of the k largest weights for the outer levels, each with the level at their mean."""
    size = np.sort(np.abs(weights.astype(np.float64)))[::-1]
    return min(
        float(np.sum((size[:k] - size[:k].mean()) ** 2) + np.sum(size[k:] ** 2)) for k in range(1, len(size) + 1)
    )


def searched_error(weights: Weights, bits: int) -> float:
    """The least error over a dense grid of steps, its best ones refined between their neighbours."""
    largest = float(np.abs(weights).max())
    grid = np.geomspace(0.1 * largest / (2 ** (bits - 1) - 1), 2.1 * largest, 1000)
    errors = np.array([squared_error(weights, step, bits) for step in grid])
    least = float(errors.min())
    for index in errors[1:-1].argsort()[:6] + 1:
        between = (grid[index - 1], grid[index + 1])
        refined = minimize_scalar(lambda step: squared_error(weights, step, bits), bounds=between, method="bounded")
        least = min(least, float(refined.fun))
    return least


def energy(weights: Weights) -> float:
    return float(np.sum(weights.astype(np.float64) ** 2))


def drawn(distribution: str, count: int) -> Weights:
    random = np.random.default_rng(7)
    return {
        "normal": lambda: random.normal(size=count),
        "laplace": lambda: random.laplace(size=count),
        "uniform": lambda: random.uniform(-1, 1, count),
        "student": lambda: random.standard_t(3, count),
        "mostly zero": lambda: random.normal(size=count) * (random.random(count) < 0.1),
        "two clusters": lambda: random.normal(size=count) * 1e-3 + np.where(random.random(count) < 0.5, 1.0, 0.01),
        "one outlier": lambda: np.append(random.normal(size=count - 1), 40.0),
    }[distribution]().astype(np.float32)


scales = st.sampled_from([1e-30, 1e-12, 1e-3, 1.0, 1e6, 1e30])
unit_weights = arrays(np.float32, st.integers(1, 40), elements=st.floats(-1, 1, width=32)) | st.builds(
    lambda value, count: np.full(count, value, np.float32), st.floats(0.125, 1, width=32), st.integers(1, 40)
)


@given(unit_weights, scales)
@example(np.ones(7, np.float32), 1.0)
@example(np.array([-0.5], np.float32), 1e30)
@settings(deadline=None, max_examples=150)
def test_no_ternary_assignment_has_a_smaller_error_than_the_step_found(unit: Weights, scale: float) -> None:
    weights = unit * np.float32(scale)
    if not np.abs(weights).max() > 1e-34:  # float32 steps end there
        return
    least = least_ternary_error(weights)
    assert squared_error(weights, found_step(weights, 2), 2) <= least * (1 + 1e-9) + 1e-12 * energy(weights)


def test_ternary_steps_worked_out_by_hand() -> None:
    # The greatest S_k^2 / k wins: 16 beats 25 / 2 for (4, 1), and 49 / 2 beats 16 for (4, 3).
    assert found_step(np.array([4, -1], np.float32), 2) == 4
    assert found_step(np.array([-4, 3], np.float32), 2) == 3.5
    assert found_step(np.array([0, 0, 2, 2, -2], np.float32), 2) == 2


@given(unit_weights, scales, st.integers(3, 8))
@settings(deadline=None, max_examples=40)
def test_a_dense_search_finds_no_smaller_error_than_the_step_found(unit: Weights, scale: float, bits: int) -> None:
    weights = unit * np.float32(scale)
    if not np.abs(weights).max() > 1e-34:
        return
    searched = searched_error(weights, bits)
    assert squared_error(weights, found_step(weights, bits), bits) <= searched * 1.001 + 1e-12 * energy(weights)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("distribution", ["normal", "laplace", "uniform", "student", "mostly zero", "one outlier"])
def test_the_step_of_a_layers_worth_of_weights_is_a_global_minimum(distribution: str, bits: int) -> None:
    weights = drawn(distribution, 500)
    error = squared_error(weights, found_step(weights, bits), bits)
    assert error <= searched_error(weights, bits) * 1.001
    assert error < energy(weights)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(
    "distribution", ["normal", "laplace", "uniform", "student", "mostly zero", "one outlier", "two clusters"]
)
def test_the_path_for_many_weights_comes_within_a_thousandth_of_the_least_error(
    distribution: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = drawn(distribution, 20_000)
    exact = squared_error(weights, found_step(weights, bits), bits)
    binned, calls = qcore.step_size._binned, []
    monkeypatch.setattr(qcore.step_size, "MOST_EVENTS", 0)
    monkeypatch.setattr(qcore.step_size, "_binned", lambda *given: calls.append(given) or binned(*given))
    assert squared_error(weights, found_step(weights, bits), bits) <= 1.001 * exact
    assert len(calls) == 1


@pytest.mark.parametrize("most_events", [0, 4_000_000])
@pytest.mark.parametrize("bits", range(2, 9))
def test_a_single_weight_is_represented_exactly(bits: int, most_events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qcore.step_size, "MOST_EVENTS", most_events)
    weight = torch.tensor([[-0.3]])
    assert quantize_weight(weight, l2_optimal_step(weight, symmetric(bits)), symmetric(bits)).item() == pytest.approx(
        -0.3, rel=1e-6
    )


@pytest.mark.parametrize("most_events", [0, 4_000_000])
@pytest.mark.parametrize("bits", range(2, 9))
def test_all_zero_weights_stay_zero(bits: int, most_events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qcore.step_size, "MOST_EVENTS", most_events)
    weights = torch.zeros(4, 3)
    step = l2_optimal_step(weights, symmetric(bits))
    assert step == 1
    assert torch.equal(quantize_weight(weights, step, symmetric(bits)), weights)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_get_step_one(value: float) -> None:
    assert l2_optimal_step(torch.tensor([0.5, value, -2.0]), symmetric(2)) == 1


@given(unit_weights, st.integers(2, 8), st.integers(-20, 20))
@settings(deadline=None, max_examples=60)
def test_the_step_scales_with_the_weights_and_ignores_signs_and_shape(unit: Weights, bits: int, power: int) -> None:
    weights = torch.from_numpy(unit)
    if not weights.abs().max() > 1e-20:
        return
    step = l2_optimal_step(weights, symmetric(bits))
    other = l2_optimal_step(-weights.reshape(1, -1, 1) * 2.0**power, symmetric(bits))
    assert other.dtype == torch.float32
    assert other.shape == ()
    assert other.item() == step.item() * 2.0**power
