"""Where a run that diverged broke first: found by training its last epoch once more, watching every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qcore.network import Network


@dataclass(frozen=True)
class Divergence:
    """The first value that was not finite."""

    step: int
    """Optimizer step of the stage, counted from 0."""
    layer: str | None
    """The layer whose output, gradient or state (weights, statistics, step sizes) it was in; None for the loss."""
    quantity: Literal["output", "loss", "gradient", "state"]

    def __str__(self) -> str:
        return f"{self.quantity}{f' of {self.layer}' if self.layer else ''} not finite at step {self.step}"


class Watch:
    """Looks at every output of a network while it is entered, and at what ``check`` is given after every step."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._output: str | None = None

    def __enter__(self) -> Watch:
        self._hooks = [
            module.register_forward_hook(self._looking_at(name)) for name, module in self._network.named_children()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def first_broken(self, step: int, loss: Tensor) -> Divergence | None:
        """What broke in a step whose loss this is, after its backward pass and update; None if nothing did."""
        if self._output is not None:
            return Divergence(step, self._output, "output")
        if not bool(loss.isfinite()):
            return Divergence(step, None, "loss")
        # Gradients arise from the last layer to the first, so the last one broke first.
        if (layer := _first_not_finite(reversed(list(self._gradients())))) is not None:
            return Divergence(step, layer, "gradient")
        if (layer := _first_not_finite(self._network.state_dict().items())) is not None:
            return Divergence(step, layer, "state")
        return None

    def _gradients(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._network.named_parameters():
            if parameter.grad is not None:
                yield name, parameter.grad

    def _looking_at(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def look(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if self._output is None and not bool(output.isfinite().all()):
                self._output = name

        return look


def _first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    return next((name.split(".")[0] for name, tensor in tensors if not bool(torch.isfinite(tensor).all())), None)
