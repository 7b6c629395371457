"""Fused passes over activations: batch normalization, sum with a shortcut, clipping and rounding, in one.

``formulas`` says what they compute, ``native`` does it in C++ on CPUs, ``compiled`` by torch's compiler.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from qcore.errors import NotHere

if TYPE_CHECKING:
    from qcore.kernels.functions import Kernels
    from qcore.recipe import Path


def kernels_of(path: Path) -> Kernels | None:
    """The kernels of a resolved path; None where layers are computed one by one.

    Raises:
        NotHere: when they cannot be built here.
    """
    match path:
        case "fused":
            from qcore.kernels.native import native_kernels

            try:
                return native_kernels()
            except (OSError, subprocess.SubprocessError) as error:
                raise NotHere("recipe.float_part.path", path, f"has no kernels ({error})", "use plain") from None
        case "compiled":
            from qcore.kernels.compiled import compiled_kernels

            return compiled_kernels()
        case "plain":
            return None
        case "auto":
            raise AssertionError("a path is resolved before anything trains")
