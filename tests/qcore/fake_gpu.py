"""A GPU that only has shapes: what runs as on device cuda computes nothing, and a tensor left on the CPU is an error.

torch's FakeTensorMode computes shapes and devices. Alone it lets pass what GPUs do too, but wait for: tensors of no
dimension on the CPU, indices there, copies to the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qcore import host_reads
from qcore.kernels import formulas
from qcore.kernels.functions import Kernels

_READ = torch.ops.aten._local_scalar_dense.default
_COPY_INTO = torch.ops.aten.copy_.default
_COPY = torch.ops.aten._to_copy.default
_UPDATES = (torch.ops.aten._fused_sgd_.default, torch.ops.aten._fused_adam_.default)
"""Optimizers' kernels, of which torch knows no shapes: they change their arguments in place and answer nothing."""


class LeftBehind(Exception):  # noqa: N818  what a test of this file expects
    """An operation met tensors of the CPU and of the GPU, or brought values to the host where nobody says why."""


class OneDevice(TorchDispatchMode):
    """Lets no operation mix devices, and no value reach the host but through ``qcore.host_reads``."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        devices = [each.device.type for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if func is _READ:
            if "cuda" in devices:
                raise LeftBehind("a value is read that qcore.host_reads does not list")
            return 1
        if func is _COPY_INTO:
            to_host = devices == ["cpu", "cuda"]
        else:
            to_host = func is _COPY and devices == ["cuda"] and str(kwargs.get("device", "cuda")) == "cpu"
            if len(set(devices)) > 1:
                raise LeftBehind(f"{func} meets tensors on {' and '.join(sorted(set(devices)))}")
        if to_host and not _within(host_reads.to_host):
            raise LeftBehind("a tensor is copied that qcore.host_reads does not list")
        return None if func in _UPDATES else func(*args, **kwargs)


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """The device, while nothing computes; kernels are the formulas, uncompiled, and every number read is 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_reads, "_number", lambda value: 1.0)
        kernels = {"plain": None, "compiled": Kernels.of(formulas)}
        patch.setattr("qcore.training.kernels_of", kernels.__getitem__)
        patch.setattr("qcore.packing.kernels_of", kernels.__getitem__)
        patch.setattr("qcore.packing.prepare_device", lambda name, threads: torch.device(name))
        # What asks the driver.
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "max_memory_reserved", lambda *_: 0)
        patch.setattr(Tensor, "pin_memory", lambda self: self)
        patch.setattr(Tensor, "backward", _backward)
        patch.setattr(nn.Module, "_apply", _apply)
        with FakeTensorMode(allow_non_fake_inputs=True), OneDevice():
            yield torch.device("cuda")


def _within(function: Callable[..., Any]) -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is function.__code__:
            return True
    return False


def _apply(self: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """As ``nn.Module._apply``, but with new parameters: torch would exchange what fake tensors hold, and cannot."""
    for module in self.children():
        module._apply(function)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                self._parameters[name] = nn.Parameter(function(parameter), parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = function(buffer)
    return self


def _backward(self: Tensor) -> None:
    """Calls the graph's nodes one by one, as autograd's engine does, which asks a driver for its streams."""
    assert self.grad_fn is not None
    gradients: dict[Any, dict[int, Tensor]] = {self.grad_fn: {0: torch.ones_like(self)}}
    for node in _from_the_loss(self.grad_fn):
        found = gradients.pop(node, None)
        if found is None:
            continue
        for (reader, index), gradient in _gradients_of_inputs(node, [found.get(i) for i in range(max(found) + 1)]):
            if reader is None or gradient is None:
                continue
            expected = reader._input_metadata[index]
            gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
            into = gradients.setdefault(reader, {})
            into[index] = into[index] + gradient if index in into else gradient


@torch.no_grad()
def _gradients_of_inputs(node: Any, given: list[Tensor | None]) -> Iterator[tuple[tuple[Any, int], Tensor | None]]:
    edges = node.next_functions
    if not hasattr(node, "apply"):
        found = node(*given)
        return zip(edges, found if isinstance(found, tuple) else (found,), strict=True)
    # A function of Python's has a gradient for every argument, but an edge only for tensors.
    needed = [of for of, needs in zip(node.apply(*given), node.needs_input_grad, strict=True) if needs]
    return zip([edge for edge in edges if edge[0] is not None], needed, strict=True)


def _from_the_loss(root: Any) -> list[Any]:
    """A graph's nodes, each before those that it hands gradients to."""
    order: list[Any] = []
    seen: set[Any] = set()
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting += [(node, True), *((reader, False) for reader, _ in node.next_functions if reader is not None)]
    return order[::-1]
