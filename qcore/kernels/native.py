"""The C++ kernels for CPUs: compiled once for this machine, kept in the user's cache, and called on tensors."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from platformdirs import user_cache_path

from qcore.files import write_whole
from qcore.host_reads import read
from qcore.kernels import formulas
from qcore.kernels.clipping import Clipping
from qcore.kernels.functions import Kernels
from qcore.numerics import compiler, processor_features

if TYPE_CHECKING:
    from torch import Tensor

_SOURCES = ("normalized_activation.cpp",)
_FLAGS = (
    *("-O3", "-mprefer-vector-width=512", "-std=c++17", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math"),  # none of what they would keep is read; loops are vectorized without
)
MARCH = "QUANTRANK_KERNELS_MARCH"
"""The environment variable that says what processor kernels are built for, as compilers name it: ``x86-64-v3`` (AVX2)
for all of a pool, say; ``native``, this machine's own, by default."""
_SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

_P, _N, _F, _I = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    "batch_norm_clip_forward": (_P, _P, _P, _N, _N, _P, _P, _P, _P, _F, _F, _P, _P, _F, _F, _F, _I),
    "batch_norm_clip_evaluate": (_P, _P, _P, _N, _N, _P, _P, _F, _F, _F, _I),
    "batch_norm_clip_backward": (_P, _P, _P, _P, _P, _N, _N, _P, _P, _P, _P, _P, _P, _P, _F, _F, _I),
    "clip_forward": (_P, _P, _P, _P, _N, _F, _F, _F, _I),
    "clip_backward": (_P, _P, _P, _N, _P, _I),
}


@cache
def library() -> ctypes.CDLL:
    """The kernels, built if they are not there yet.

    Raises:
        OSError: with what the compiler said, if it cannot build them.
    """
    found = compiler()
    assert found is not None, "resolve_numerics chooses the fused path only where there is a compiler"
    place = _built(found)
    try:
        return _declared(ctypes.CDLL(str(place)))
    except OSError:  # the cache's file system is mounted noexec, as a rule
        return _declared(_loaded_from_memory(place.read_bytes()))


def _loaded_from_memory(content: bytes) -> ctypes.CDLL:
    """A shared library that lies in no file system."""
    file = os.memfd_create("quantrank-kernels")
    with open(file, "wb") as writing:  # noqa: PTH123  it has no path
        writing.write(content)
        writing.flush()
        return ctypes.CDLL(f"/proc/self/fd/{file}")


def _built(compiler: str) -> Path:
    """The shared library, in the user's cache under the hash of all that decides it."""
    folder = Path(__file__).parent
    source = b"".join((folder / name).read_bytes() for name in _SOURCES)
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60).stdout  # noqa: S603
    features = " ".join(sorted(processor_features()))  # a home may be shared by machines of several kinds
    flags = (*_FLAGS, f"-march={os.environ.get(MARCH) or 'native'}")
    key = hashlib.sha256(b"\0".join((source, version, " ".join(flags).encode(), features.encode()))).hexdigest()[:32]
    place = _cache_folder() / f"kernels-{key}.so"
    if not place.exists():
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "kernels.so"
            command = [compiler, *flags, "-o", str(output), *(str(folder / name) for name in _SOURCES)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)  # noqa: S603
            if done.returncode:
                raise OSError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
            write_whole(place, output.read_bytes())
    return place


def _cache_folder() -> Path:
    for folder in (user_cache_path("quantrank"), Path(tempfile.gettempdir()) / f"quantrank-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise OSError("there is no folder to keep compiled kernels in; set XDG_CACHE_HOME to one")


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    for name, arguments in _SIGNATURES.items():
        for suffix in _SUFFIXES.values():
            function = getattr(found, f"{name}_{suffix}")
            function.argtypes, function.restype = arguments, None
    return found


def _call(name: str, of: Tensor, *arguments: object) -> None:
    getattr(library(), f"{name}_{_SUFFIXES[of.dtype]}")(*arguments, torch.get_num_threads())


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def batch_norm_clip_forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    epsilon: float,
    alpha: Tensor | None,
    clipping: Clipping,
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``formulas.batch_norm_clip_forward``."""
    y, mean, deviation = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    channels = x.shape[1]
    statistics = (_at(weight), _at(bias), _at(running_mean), _at(running_var), momentum, epsilon)
    _call(
        "batch_norm_clip_forward",
        x,
        *(_at(x), _at(residual), _at(y), x.numel() // channels, channels),
        *statistics,
        *(_at(mean), _at(deviation)),
        *clipping.bounds(alpha),
    )
    return y, mean, deviation


def batch_norm_clip_evaluate(
    x: Tensor, residual: Tensor | None, scale: Tensor, shift: Tensor, alpha: Tensor | None, clipping: Clipping
) -> Tensor:
    """As ``formulas.batch_norm_clip_evaluate``."""
    y, channels = torch.empty_like(x), x.shape[1]
    shape = x.numel() // channels, channels
    places = _at(x), _at(residual), _at(y)
    _call("batch_norm_clip_evaluate", x, *places, *shape, _at(scale), _at(shift), *clipping.bounds(alpha))
    return y


def batch_norm_clip_backward(
    gradient: Tensor,
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    deviation: Tensor,
    alpha: Tensor | None,
    clipping: Clipping,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """As ``formulas.batch_norm_clip_backward``."""
    of_x, of_residual = torch.empty_like(x), None if residual is None else torch.empty_like(x)
    of_weight, of_bias, beyond = torch.empty_like(weight), torch.empty_like(bias), weight.new_empty(2)
    channels = x.shape[1]
    low, high, _ = clipping.bounds(alpha)
    _call(
        "batch_norm_clip_backward",
        x,
        *(_at(gradient), _at(x), _at(residual), _at(of_residual), _at(of_x), x.numel() // channels, channels),
        *(_at(weight), _at(bias), _at(mean), _at(deviation), _at(of_weight), _at(of_bias), _at(beyond), low, high),
    )
    return of_x, of_residual, of_weight, of_bias, _of_alpha(beyond, clipping)


def clip_forward(a: Tensor, b: Tensor | None, alpha: Tensor, clipping: Clipping) -> tuple[Tensor, Tensor]:
    """As ``formulas.clip_forward``."""
    y, where = torch.empty_like(a), torch.empty_like(a, dtype=torch.uint8)
    _call("clip_forward", a, _at(a), _at(b), _at(y), _at(where), a.numel(), *clipping.bounds(alpha))
    return y, where


def clip_backward(gradient: Tensor, where: Tensor, clipping: Clipping) -> tuple[Tensor, Tensor]:
    """As ``formulas.clip_backward``."""
    passed, beyond = torch.empty_like(gradient), torch.empty(2)
    _call("clip_backward", gradient, _at(gradient), _at(where), _at(passed), gradient.numel(), _at(beyond))
    return passed, _of_alpha(beyond, clipping)


@cache
def native_kernels() -> Kernels:
    """The kernels, ready to be called.

    Raises:
        OSError: as ``library`` does, and where they do not compute what the formulas say: compilers have bugs, and this
            one optimizes for a processor that nobody may have tried it on.
    """
    library()
    kernels = Kernels(
        batch_norm_clip_forward, batch_norm_clip_evaluate, batch_norm_clip_backward, clip_forward, clip_backward
    )
    if not agree_with_formulas(kernels):
        raise OSError(f"what {compiler()} made of the kernels computes wrongly")
    return kernels


def agree_with_formulas(kernels: Kernels) -> bool:
    """Whether kernels compute what ``formulas`` say, in float32, on a small example of every kind of pass; on torch's
    default device. One value in two hundred may be off, as one on the boundary of two codes is.
    """
    device = torch.get_default_device()
    drawn = torch.randn((3, 6, 5, 7, 9), generator=torch.Generator().manual_seed(0), device="cpu")
    x, residual, gradient = drawn.to(device).unbind()
    x, residual, gradient = (each.contiguous(memory_format=torch.channels_last) for each in (x, residual, gradient))
    weight, bias, alpha = torch.linspace(0.5, 1.5, 5), torch.linspace(-0.2, 0.2, 5), torch.tensor(1.1)

    def everything(of: Kernels) -> list[Tensor]:
        found: list[Tensor | None] = []
        for clipping in (Clipping(3), Clipping(127, signed=True), Clipping(None), Clipping(None, ceiling=1.0)):
            for other in (None, residual):
                running = torch.zeros(5), torch.ones(5)
                of_alpha = None if clipping.levels is None else alpha
                y, mean, deviation = of.batch_norm_clip_forward(
                    x, other, weight, bias, *running, 0.1, 1e-5, of_alpha, clipping
                )
                backward = of.batch_norm_clip_backward(
                    gradient, x, other, weight, bias, mean, deviation, of_alpha, clipping
                )
                found.append(of.batch_norm_clip_evaluate(x, other, weight, bias, of_alpha, clipping))
                found += [y, mean, deviation, *running, *(backward if clipping.levels else backward[:-1])]
                if clipping.levels is not None:
                    y, where = of.clip_forward(x, other, alpha, clipping)
                    found += [y, where.float(), *of.clip_backward(gradient, where, clipping)]
        return [each for each in found if each is not None]

    def agree(ours: Tensor, theirs: Tensor) -> bool:
        off = ~torch.isclose(ours, theirs, rtol=1e-3, atol=1e-3)
        return read(off.sum(), "kernels compute rightly") <= off.numel() // 200

    pairs = zip(everything(kernels), everything(Kernels.of(formulas)), strict=True)
    return all(agree(*pair) for pair in pairs)


def _of_alpha(beyond: Tensor, clipping: Clipping) -> Tensor:
    """Alpha's gradient from the gradients' sums above and below the clipping range."""
    return beyond[0] - beyond[1] if clipping.signed else beyond[0]
