"""Where a run that diverged broke first: found by training its last epoch once more, watching every step."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qcore.host_reads import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

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
    """Looks at every output and every gradient of a network while it is entered, as they are computed."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._output: str | None = None
        self._gradient: str | None = None

    def __enter__(self) -> Watch:
        self._undo = ExitStack()
        self._undo.enter_context(self._network.observed(self._look_at))
        for name, parameter in self._network.named_parameters():
            # Not after the backward pass: clipping spreads one that is not a number over all gradients.
            hook = parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                self._looking_at_gradient(name.split(".")[0])
            )
            self._undo.callback(hook.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def first_broken(self, step: int, loss: Tensor) -> Divergence | None:
        """What broke in a step whose loss this is, after its backward pass and update; None if nothing did."""
        if self._output is not None:
            return Divergence(step, self._output, "output")
        if not _is_finite(loss):
            return Divergence(step, None, "loss")
        if self._gradient is not None:
            return Divergence(step, self._gradient, "gradient")
        for name, tensor in self._network.state_dict().items():
            if not _is_finite(tensor):
                return Divergence(step, name.split(".")[0], "state")
        return None

    def _look_at(self, name: str, output: Tensor) -> None:
        if self._output is None and not _is_finite(output):
            self._output = name

    def _looking_at_gradient(self, name: str) -> Callable[[Tensor], None]:
        def look(parameter: Tensor) -> None:
            if self._gradient is None and parameter.grad is not None and not _is_finite(parameter.grad):
                self._gradient = name

        return look


def _is_finite(tensor: Tensor) -> bool:
    return bool(read(tensor.isfinite().all(), "where a run broke"))
