"""Level sets: which values a quantized weight can have, and the steps that fit them best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar

import qcore.step_size
from qcore import Architecture, BitWidths, Network, get_task, l2_optimal_step, quantize_weight
from qcore.levels import Levels, LevelSet, weight_levels
from qcore.recipe import QuantizerSettings

LEVEL_SETS: tuple[LevelSet, ...] = ("symmetric", "twos_complement", "mid_rise")
of_every_set = pytest.mark.parametrize("level_set", LEVEL_SETS)

AT_2_BITS = {
    "symmetric": [-1.0, 0.0, 1.0],
    "twos_complement": [-2.0, -1.0, 0.0, 1.0],
    "mid_rise": [-1.5, -0.5, 0.5, 1.5],
}


@of_every_set
def test_two_bit_weights_take_exactly_the_levels_of_their_set(level_set: LevelSet) -> None:
    weights = torch.linspace(-5, 5, 1001)
    quantized = quantize_weight(weights, torch.tensor(0.25), weight_levels(level_set, 2))
    assert quantized.unique().tolist() == [0.25 * level for level in AT_2_BITS[level_set]]


@of_every_set
@pytest.mark.parametrize("bits", range(2, 9))
def test_a_level_set_has_no_more_levels_than_its_bits_can_code(level_set: LevelSet, bits: int) -> None:
    levels = weight_levels(level_set, bits)
    assert levels.bits == bits
    assert len(levels.codes) == 2**bits - (level_set == "symmetric")
    assert levels.largest_positive == levels.codes[-1] + levels.offset
    assert levels.largest_negative == -(levels.codes[0] + levels.offset)


@of_every_set
def test_every_weight_goes_to_its_nearest_level(level_set: LevelSet) -> None:
    levels = weight_levels(level_set, 3)
    weights = torch.randn(500, generator=torch.Generator().manual_seed(1))
    values = torch.tensor([(code + levels.offset) * 0.3 for code in levels.codes])
    nearest = (weights[:, None] - values).abs().min(1).values
    quantized = quantize_weight(weights, torch.tensor(0.3), levels)
    torch.testing.assert_close((weights - quantized).abs(), nearest, rtol=1e-5, atol=1e-6)


def error(weights: np.ndarray, step: float, levels: Levels) -> float:
    values = step * (np.array(levels.codes) + levels.offset)
    return float((np.abs(weights.astype(np.float64)[:, None] - values).min(1) ** 2).sum())


def searched_error(weights: np.ndarray, levels: Levels) -> float:
    """The least error over a dense grid of steps, the best ones refined between their neighbours."""
    largest = float(np.abs(weights).max())
    grid = np.geomspace(0.05 * largest / levels.largest_positive, 4 * largest, 1500)
    errors = np.array([error(weights, step, levels) for step in grid])
    least = float(errors.min())
    for index in errors[1:-1].argsort()[:6] + 1:
        between = (grid[index - 1], grid[index + 1])
        found = minimize_scalar(lambda step: error(weights, step, levels), bounds=between, method="bounded")
        least = min(least, float(found.fun))
    return least


values = st.floats(-100, 100, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)


@of_every_set
@pytest.mark.parametrize("bits", [2, 3, 4])
@given(weights=arrays(np.float32, st.integers(1, 40), elements=values))
@settings(deadline=None, max_examples=25)
@example(weights=np.array([-1.0, -1.0, -0.5, 0.2], dtype=np.float32))
@example(weights=np.array([0.0, 0.0, 3.0], dtype=np.float32))
def test_no_step_has_a_smaller_squared_error(level_set: LevelSet, bits: int, weights: np.ndarray) -> None:
    if not weights.any():
        weights[0] = 1.0
    levels = weight_levels(level_set, bits)
    found = error(weights, float(l2_optimal_step(torch.from_numpy(weights), levels)), levels)
    assert found <= searched_error(weights, levels) + 1e-6 * float((weights.astype(np.float64) ** 2).sum())


@of_every_set
def test_gathering_weights_in_bins_costs_less_than_a_thousandth(
    level_set: LevelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = np.random.default_rng(3).normal(0.1, 1.0, 60_000).astype(np.float32)
    levels = weight_levels(level_set, 4)
    exact = error(weights, float(l2_optimal_step(torch.from_numpy(weights), levels)), levels)
    monkeypatch.setattr(qcore.step_size, "MOST_EVENTS", 0)
    binned = error(weights, float(l2_optimal_step(torch.from_numpy(weights), levels)), levels)
    assert exact <= binned <= 1.001 * exact


@of_every_set
def test_a_recipe_chooses_the_level_set_of_every_layer(level_set: LevelSet) -> None:
    layers = Architecture("depthwise", 11, 3).layers(get_task("digits"))
    network = Network(layers, BitWidths(2, None), QuantizerSettings(weight_levels=level_set))
    network.initialize(torch.Generator().manual_seed(0))
    network.start_steps()
    named = dict(network.weight_layers())
    for name, module in named.items():
        assert module.weight_quantizer is not None
        used = (module.weight_quantizer(module.weight) / module.weight_quantizer.step).detach()
        if name in ("stem_conv", "classifier"):
            assert module.weight_quantizer.levels == weight_levels(level_set, 8)
        else:
            assert {round(float(level), 3) for level in used.unique()} <= set(AT_2_BITS[level_set])


@pytest.mark.parametrize(("policy", "bits"), [(None, None), (8, 8), ("same", 2)])
def test_the_first_and_last_layers_follow_their_policy(policy: int | str | None, bits: int | None) -> None:
    layers = Architecture("plain", 4, 8).layers(get_task("rings"))
    settings_ = QuantizerSettings.model_validate({"first_last_weight_bits": policy})
    network = Network(layers, BitWidths(2, 2), settings_)
    outer = [module.weight_quantizer for _, module in network.weight_layers()]
    expected = None if bits is None else weight_levels("symmetric", bits)
    assert [each and each.levels for each in (outer[0], outer[-1])] == [expected, expected]
    assert all(each is not None and each.levels == weight_levels("symmetric", 2) for each in outer[1:-1])
