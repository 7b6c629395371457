"""Step sizes against brute force: every ternary assignment, and a dense search for more levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

import qcore.step_size
from qcore import l2_optimal_step, quantize_weight

Floats = npt.NDArray[np.float64]


def squared_error(weights: Floats, step: float, bits: int) -> float:
    most = 2 ** (bits - 1) - 1
    return float(np.sum((weights - step * np.clip(np.rint(weights / step), -most, most)) ** 2))


def searched_error(weights: Floats, bits: int) -> float:
    """The least error of steps on a dense grid, each of the best ones refined between its neighbours."""
    most, largest = 2 ** (bits - 1) - 1, float(np.abs(weights).max())
    grid = np.geomspace(0.1 * largest / most, 2.1 * largest, 1500)
    errors = np.array([squared_error(weights, step, bits) for step in grid])
    least = float(errors.min())
    for index in errors[1:-1].argsort()[:8] + 1:
        refined = minimize_scalar(
            squared_error, bounds=(grid[index - 1], grid[index + 1]), args=(weights, bits), method="bounded"
        ) if False else minimize_scalar(
            lambda step: squared_error(weights, step, bits), bounds=(grid[index - 1], grid[index + 1]), method="bounded"
        )
        least = min(least, float(refined.fun))
    return least


def found(weights: npt.NDArray[np.float32], bits: int) -> float:
    return float(l2_optimal_step(torch.from_numpy(weights), bits))
