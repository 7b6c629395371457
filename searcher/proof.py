"""A worker's proof that it can work: its temporary folder, the store, its device and kernels, a step of training."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from qcore.recipe import Path
    from searcher.worker_settings import WorkerSettings

_PROBE_BYTES = 2**16


@dataclass(frozen=True)
class Check:
    """One line of a proof."""

    name: str
    found: str
    """Where it was done, or with what."""
    problem: str | None = None
    """What fails, and what to do; None if it works."""
    essential: bool = True
    """Without it nothing can be trained; else some recipes can."""


@dataclass(frozen=True)
class Proof:
    """What a worker was found to have, as it was looked for; behind one that fails others may be missing."""

    checks: tuple[Check, ...]

    @property
    def problem(self) -> str | None:
        """Why nothing can be trained here; None if something can."""
        return next((_told(each) for each in self.checks if each.problem is not None and each.essential), None)

    @property
    def kernels(self) -> bool:
        """Whether the fused kernels can be used."""
        return any(each.name == _KERNELS and each.problem is None for each in self.checks)

    @property
    def holds(self) -> bool:
        """Whether nothing at all fails."""
        return all(each.problem is None for each in self.checks)


_KERNELS = "kernels"
_trained: set[tuple[str, int, str]] = set()
"""Devices, threads and paths that this process has proved to train on: once is enough, until something fails."""


def prove(settings: WorkerSettings, *, anew: bool = False) -> Proof:
    """Looks for everything that evaluations need. Imports torch.

    ``anew``: trains again even if this process has proved before that it can.
    """
    checks = [_checked("temporary folder", _temporary_folder), _checked("store", lambda: _store(settings))]
    if all(each.problem is None for each in checks):
        checks += _computing(settings, anew=anew)
    return Proof(tuple(checks))


def _computing(settings: WorkerSettings, *, anew: bool) -> list[Check]:
    devices: list[torch.device] = []

    def device() -> str:
        from qcore.devices import prepare_device

        devices.append(prepare_device(settings.device, settings.threads))
        return settings.device

    checks = [_checked("device", device)]
    if not devices:
        return checks
    path: Path = "plain"
    if settings.device == "cpu":
        checks.append(kernels())
        path = "plain" if checks[-1].problem else "fused"
    else:
        path = "compiled"
    checks.append(_checked("training", lambda: _training(settings, devices[0], path, anew=anew)))
    return checks


def kernels() -> Check:
    """Whether the fused kernels can be built and loaded, and compute rightly."""
    return _checked(_KERNELS, _kernels, essential=False)


def _temporary_folder() -> str:
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(_PROBE_BYTES))
        file.flush()
        file.seek(0)
        if file.read() != bytes(_PROBE_BYTES):
            raise OSError("what was written is not what is read")
    return tempfile.gettempdir()


def _store(settings: WorkerSettings) -> str:
    settings.artifacts.prove(secrets.token_bytes(_PROBE_BYTES))
    return settings.artifacts.location


def _kernels() -> str:
    from qcore.numerics import compiler, has_kernels

    if not has_kernels():
        raise InvalidInput("kernels", "fused", "need Linux and a C++ compiler", "install g++, or set CXX")
    from qcore.kernels.native import native_kernels

    native_kernels()
    return f"built by {compiler()}"


def _training(settings: WorkerSettings, device: torch.device, path: Path, *, anew: bool) -> str:
    from qcore.proving import prove_training

    key = (settings.device, settings.threads, path)
    if anew or key not in _trained:
        _trained.discard(key)
        prove_training(device, path)
        _trained.add(key)
    return f"a tiny network in float and W2A2, by the path {path}"


def _checked(name: str, check: Callable[[], str], *, essential: bool = True) -> Check:
    try:
        return Check(name, check(), essential=essential)
    except InvalidInput as error:
        problem = str(error)
    except subprocess.SubprocessError as error:
        problem = f"the compiler fails: {error}"
    except OSError as error:  # without the name of a file, which is another every time
        problem = error.strerror or str(error)
    except Exception as error:  # whatever it is, it would befall every evaluation
        problem = f"{type(error).__name__}: {error}"
    return Check(name, "", problem, essential)


def _told(check: Check) -> str:
    where = f" {tempfile.tempdir}" if check.name == "temporary folder" and tempfile.tempdir else ""
    return f"{check.name}{where}: {check.problem}"
