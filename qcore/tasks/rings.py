"""``rings``: the paper's two-dimensional synthetic data set (Section 3.1, Eqs. 5 to 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcore.recipe import FloatRecipe, QuantizerSettings, Recipe, RetrainingRecipe, Schedule
from qcore.tasks.task import FULLY_CONNECTED, Examples, Task, nothing_to_check

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Points = npt.NDArray[np.float64]
    Rings = npt.NDArray[np.int64]

RADIUS = 0.1
RINGS = 10
CORES_PER_SEMICIRCLE = 100
SUBSAMPLES = 9
GRID_SPACING = 0.01
_DATA_SEED = 20


def ring_and_label(x: Points, y: Points) -> tuple[Rings, Rings]:
    """The ring k that each point (x, y) lies in and its correct label; the answer is defined where 1 <= k <= 10.

    Semicircles above the axis are centred at (0, 0), those below at (r, 0); odd rings above and even ones below
    are label 0.
    """
    import numpy as np

    upper = y > 0
    ring = np.rint(np.hypot(np.where(upper, x, x - RADIUS), y) / RADIUS).astype(np.int64)
    label = np.where(upper, (ring + 1) % 2, ring % 2)
    return ring, label.astype(np.int64)


def load(_data_root: Path) -> Examples:
    """20,000 noisy training points, and as test set the correct answers on a grid over all ten rings."""
    import numpy as np

    angle = np.pi * (np.arange(CORES_PER_SEMICIRCLE) + 0.5) / CORES_PER_SEMICIRCLE
    points, labels = [], []
    for ring in range(1, RINGS + 1):
        radius = ring * RADIUS
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        points += [np.stack([x, y], axis=1), np.stack([x + RADIUS, -y], axis=1)]
        labels += [np.full(CORES_PER_SEMICIRCLE, (ring + 1) % 2), np.full(CORES_PER_SEMICIRCLE, ring % 2)]
    core = np.concatenate(points)
    noise = np.random.default_rng(_DATA_SEED).normal(0.0, RADIUS / 3, (SUBSAMPLES, *core.shape))
    train = np.concatenate([core, *(core + noise)])

    line = np.arange(-RINGS - 1, RINGS + 2 + GRID_SPACING, GRID_SPACING / RADIUS) * RADIUS
    grid_x, grid_y = (axis.ravel() for axis in np.meshgrid(line, line))
    ring_of, label_of = ring_and_label(grid_x, grid_y)
    inside = (ring_of >= 1) & (ring_of <= RINGS)
    test = np.stack([grid_x[inside], grid_y[inside]], axis=1)
    train_labels = np.tile(np.concatenate(labels), 1 + SUBSAMPLES).astype(np.int64)
    return Examples(_vectors(train), train_labels, _vectors(test), label_of[inside])


def _vectors(points: Points) -> npt.NDArray[Any]:
    import numpy as np

    return points.astype(np.float32).reshape(-1, 2, 1, 1)


# The paper gives no schedule for its synthetic data; these are ours. A float rate of 3e-3 trains residual networks of
# four layers better (docs/results.md), but all networks lose more when they are quantized.
def _recipe(name: str, float_epochs: int, retraining_epochs: int) -> Recipe:
    def adam(epochs: int) -> Schedule:
        return Schedule(epochs=epochs, optimizer="adam", learning_rate=1e-3, warmup_epochs=2)

    return Recipe(
        name=name,
        float_part=FloatRecipe(schedule=adam(float_epochs)),
        retraining=RetrainingRecipe(
            schedule=adam(retraining_epochs), quantizers=QuantizerSettings(first_last_weight_bits=None)
        ),
    )


TASK = Task(
    name="rings",
    version="1",
    title="Ten half rings a side in the plane, two classes (synthetic)",
    input_shape=(2, 1, 1),
    classes=2,
    input_bits=32,
    mean=(0.0, 0.0),
    std=(1.0, 1.0),
    blocks=FULLY_CONNECTED,
    train_examples=20_000,
    test_examples=34_542,
    recipes=(_recipe("short", 40, 20), _recipe("paper", 100, 60)),
    load=load,
    check=nothing_to_check,
)
