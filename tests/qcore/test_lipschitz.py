"""L_Lip (Eq. 8) against the sum written out, for every kind of weight layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qcore import Architecture, BitWidths, Network, evaluate, get_task, override
from qcore.lipschitz import lipschitz_loss


def written_out(network: Network) -> float:
    total = 0.0
    for _, module in network.weight_layers():
        weight = module.weight.detach().double().numpy()
        groups = module.groups if isinstance(module, torch.nn.Conv2d) else 1
        for group in np.split(weight, groups):
            w = group.reshape(len(group), -1).T  # (k * k * c_in, c_out)
            gram = w.T @ w
            for row in range(len(gram)):
                for column in range(len(gram)):
                    total += (gram[row, column] - (row == column)) ** 2
    return total / 2


@pytest.mark.parametrize(
    ("name", "task"), [("basic-L8-D4", "digits"), ("depthwise-L11-D3", "digits"), ("residual-L4-D8", "rings")]
)
@pytest.mark.parametrize("bit_widths", [BitWidths(None, None), BitWidths(2, 2)], ids=str)
def test_the_regularizer_equals_the_sum_over_the_float_weights(name: str, task: str, bit_widths: BitWidths) -> None:
    network = Network(Architecture.parse(name).layers(get_task(task)), bit_widths)
    network.initialize(torch.Generator().manual_seed(0))
    assert lipschitz_loss(network).item() == pytest.approx(written_out(network), rel=1e-4)


def test_orthonormal_weights_cost_nothing() -> None:
    network = Network(Architecture("plain", 4, 16).layers(get_task("rings")))
    for _, module in network.weight_layers():
        rows = module.weight.detach()
        # More outputs than inputs cannot all be orthonormal: the first layer's 16 rows of 2 keep a rest of 14.
        torch.nn.init.orthogonal_(rows)
    assert lipschitz_loss(network).item() == pytest.approx(14 / 2, abs=1e-4)


def test_a_depthwise_kernels_term_is_its_squared_norms_distance_from_one() -> None:
    network = Network(Architecture("depthwise", 11, 3).layers(get_task("digits")))
    for _, module in network.weight_layers():
        torch.nn.init.zeros_(module.weight)
    empty = lipschitz_loss(network).item()
    depthwise = dict(network.weight_layers())["group1_block1_depthwise"]
    with torch.no_grad():
        depthwise.weight[2] = 0.5  # nine of them: squared norm 2.25
    assert lipschitz_loss(network).item() - empty == pytest.approx(0.5 * ((2.25 - 1) ** 2 - 1))


def test_retraining_with_the_regularizer_ends_nearer_to_orthonormal_and_the_float_stage_is_the_same() -> None:
    task, architecture = get_task("digits"), Architecture("basic", 8, 4)
    short = {"schedule": {"epochs": 2, "warmup_epochs": 0}}

    def distances(scale: float) -> tuple[float, float]:
        recipe = override(
            task.recipe("short"), {"float_part": short, "retraining": {**short, "lipschitz_scale": scale}}
        )
        found = []
        for stage, result in evaluate(architecture, task, [BitWidths(2, 2)], recipe=recipe, data_root=Path("unused")):
            network = Network(architecture.layers(task), stage.bit_widths)
            network.load_state_dict(result.state)
            found.append(lipschitz_loss(network).item())
        return found[0], found[1]

    plain, regularized = distances(0.0), distances(1e-2)
    assert regularized[0] == plain[0]
    assert regularized[1] < 0.8 * plain[1]
