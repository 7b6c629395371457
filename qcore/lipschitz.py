"""L_Lip: the regularizer that keeps a network from amplifying activation noise (paper, Section 4.3, Eq. 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from qcore.network import Network


def lipschitz_loss(network: Network) -> Tensor:
    """Half the sum over weight layers of ||W^T W - I||^2 (squared Frobenius norm), a scalar.

    W has shape (kernel_size^2 * in_channels / groups, out_channels), or (in_features, out_features). A convolution in
    groups has one such matrix a group, so that a depthwise kernel's term is (its squared norm - 1)^2 / 2. It acts on
    the float weights, which the optimizer updates, not on the quantized ones made of them.
    """
    return 0.5 * torch.stack([_distance(module) for _, module in network.weight_layers()]).sum()


def _distance(module: nn.Conv2d | nn.Linear) -> Tensor:
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    outputs = len(module.weight) // groups
    rows = module.weight.reshape(groups, outputs, -1)  # one output's weights a row: W transposed, group by group
    return (rows @ rows.transpose(1, 2) - torch.eye(outputs, device=rows.device)).square().sum()
