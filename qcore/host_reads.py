"""Every place where training or measuring reads a value from the device, and why: the host waits for the device there.

Nothing else in ``qcore`` may turn a tensor's value into a number, a branch or an array; tests hold training to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Reason = Literal[
    "an epoch's loss",
    "an epoch is finite",
    "an accuracy",
    "where a run broke",
    "a clipping value on the CPU",
    "a given network is finite",
    "a measurement",
    "kernels compute rightly",
]

Copied = Literal["a trained network", "a checkpoint", "a distribution of codes"]

READS: dict[Reason, str] = {
    "an epoch's loss": "a point of the learning curve; once an epoch",
    "an epoch is finite": "whether training goes on; once an epoch, all tensors at once",
    "an accuracy": "the metric of a split, or its confusion matrix; once a split",
    "where a run broke": "every step of a diverged run's last epoch, which is trained again for that",
    "a clipping value on the CPU": "C++ kernels, and torch's fastest ones, take numbers; nothing waits on a CPU",
    "a given network is finite": "whether a network that a recipe starts from can be trained; once a stage",
    "kernels compute rightly": "whether what a compiler made can be trained with; once a process",
    "a measurement": "what quantization does layer by layer; asked for, never while training",
}
"""The reason for each read of a single value, and how often it happens."""

COPIES: dict[Copied, str] = {
    "a trained network": "the result of a stage; once a stage",
    "a distribution of codes": "of a measurement, as above; once a layer",
    "a checkpoint": "what training goes on from; once an epoch",
}
"""The reason for each copy of a whole tensor to the host, and how often it happens."""


def read(value: Tensor, reason: Reason) -> float:
    """The number that a tensor of one element holds, wherever it is; of a truth value 0 or 1."""
    assert reason in READS
    return _number(value)


def to_host(tensor: Tensor, what: Copied) -> Tensor:
    """A tensor's values on the CPU, apart from autograd; the tensor itself if it is there."""
    assert what in COPIES
    return tensor.detach().cpu()


def _number(value: Tensor) -> float:
    return float(value.item())
