"""The network as it is shipped: its codes and steps are those that the torch network computes with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exporting import random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.export import deploy
from qcore.export.deployed import BN_EPSILON, QuantizedWeights, quantize
from qcore.layers import BatchNorm
from qcore.levels import weight_levels
from qcore.network import Network
from qcore.quantizers import quantize_weight


@given(
    st.lists(st.floats(-20, 20, width=32) | st.integers(-40, 40).map(lambda half: half / 2), min_size=1, max_size=40),
    st.sampled_from(["symmetric", "twos_complement", "mid_rise"]),
    st.integers(2, 8),
    st.sampled_from([1.0, 0.5, 0.3, 1e-3]),
)
@settings(deadline=None)
def test_codes_stand_for_what_the_quantizer_gives_ties_included(
    values: list[float], level_set: str, bits: int, step: float
) -> None:
    levels = weight_levels(level_set, bits)  # type: ignore[arg-type]
    weights = np.array(values, np.float32)
    found = quantize(weights, bits, levels, np.float32(step))
    expected = quantize_weight(torch.from_numpy(weights), torch.tensor(step), levels).numpy()
    assert np.array_equal(found.values, expected)
    multiples, unit = found.multiples
    np.testing.assert_allclose(multiples * unit, expected, rtol=1e-6)
    assert found.codes.min() >= levels.lowest
    assert found.codes.max() <= levels.highest


@pytest.mark.parametrize("step", ["l2", "learned"])
def test_every_layers_weights_are_those_of_the_torch_network(step: str) -> None:
    trained = random_network("depthwise-L11-D3", "W3A4", weight_step=step, weight_levels="mid_rise")
    description = trained.description
    network = Network(description.layers, description.bit_widths, description.quantizers)
    network.load_state_dict({name: torch.from_numpy(values) for name, values in trained.state.items()})
    found = deploy(description, trained.state)
    for name, module in network.weight_layers():
        weights = found.weights[name]
        assert isinstance(weights, QuantizedWeights)
        assert module.weight_quantizer is not None
        assert np.array_equal(weights.values, module.weight_quantizer(module.weight).detach().numpy())


@pytest.mark.parametrize("learned", ["pact", "learned"])
def test_a_step_or_clipping_value_below_the_least_acts_like_the_least(learned: str) -> None:
    trained = random_network("basic-L8-D3", "W2A2", activation_step=learned)
    name = "stem_relu.step" if learned == "learned" else "stem_relu.clipping_value"
    state = {**trained.state, name: np.array(-3.0, np.float32)}
    step = deploy(trained.description, state).activations["stem_relu"].step
    assert step == pytest.approx(1e-5 if learned == "learned" else 1e-5 / 3)


def test_networks_are_trained_with_the_epsilon_they_are_exported_with() -> None:
    layers = random_network("basic-L8-D3").description.layers
    modules = [module for module in Network(layers).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(modules) == sum(isinstance(layer, BatchNorm) for layer in layers)
    assert {module.eps for module in modules} == {BN_EPSILON}
