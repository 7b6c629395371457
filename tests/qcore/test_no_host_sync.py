"""Nothing in a training step waits for the device: run on tensors without values, where reading one raises."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from qcore import Architecture, BitWidths, Network, get_task, l2_optimal_step
from qcore.levels import LevelSet, weight_levels
from qcore.recipe import QuantizerSettings

SETTINGS = {
    "l2 and PACT": QuantizerSettings(),
    "LSQ": QuantizerSettings(weight_step="learned", activation_step="learned", weight_levels="twos_complement"),
    "mid-rise": QuantizerSettings(weight_levels="mid_rise", first_last_weight_bits="same"),
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("basic-L8-D4", "digits"),
        ("preact-L8-D4", "digits"),
        ("depthwise-L11-D3", "digits"),
        ("mobilenetv2-x0.1", "digits"),
        ("residual-L4-D8", "rings"),
    ],
)
def test_a_forward_pass_reads_no_value_back(name: str, task: str, settings: str) -> None:
    layers, shape = Architecture.parse(name).layers(get_task(task)), get_task(task).input_shape
    network = Network(layers, BitWidths(2, 2), SETTINGS[settings])
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert network(torch.zeros(4, *shape)).shape == (4, get_task(task).classes)


@pytest.mark.parametrize("level_set", ["symmetric", "twos_complement", "mid_rise"])
def test_step_sizes_are_fitted_without_reading_a_value_back(level_set: LevelSet) -> None:
    with FakeTensorMode():
        assert l2_optimal_step(torch.zeros(64, 3, 3, 3), weight_levels(level_set, 4)).shape == ()


def test_reading_a_value_back_would_be_noticed() -> None:
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        float(torch.zeros(3).sum())
