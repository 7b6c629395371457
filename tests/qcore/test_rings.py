"""The synthetic data set of the paper's Section 3.1, and the order of bit widths that its Figure 2 publishes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qcore import Architecture, BitWidths, evaluate, get_task
from qcore.tasks import Examples
from qcore.tasks.rings import ring_and_label

CORES = 2000
RADIUS = 0.1


@cache
def examples() -> Examples:
    return get_task("rings").load(Path("unused"))


def answer(x: float, y: float) -> tuple[int, int]:
    ring, label = ring_and_label(np.array([x]), np.array([y]))
    return int(ring[0]), int(label[0])


def test_there_are_ten_thousand_training_points_of_each_label() -> None:
    assert examples().train_inputs.shape == (20_000, 2, 1, 1)
    assert np.bincount(examples().train_labels).tolist() == [10_000, 10_000]


def test_a_hundred_core_samples_lie_on_each_semicircle_of_equations_5_and_6() -> None:
    points = examples().train_inputs[:CORES].astype(np.float64).reshape(-1, 2)
    labels = examples().train_labels[:CORES]
    taken = np.zeros(CORES, dtype=int)
    for i in range(5):
        odd, even = 2 * i + 1, 2 * i + 2
        # (radius in r, above the axis?, label): Eq. 5 is label 0, Eq. 6 is label 1.
        for ring, upper, label in [(odd, True, 0), (even, False, 0), (even, True, 1), (odd, False, 1)]:
            from_centre = np.hypot(points[:, 0] - (0.0 if upper else RADIUS), points[:, 1])
            on = (np.abs(from_centre - ring * RADIUS) < 1e-6) & ((points[:, 1] > 0) == upper)
            assert on.sum() == 100, (ring, upper)
            assert set(labels[on]) == {label}, (ring, upper)
            taken += on
            x = points[on, 0] - (0.0 if upper else RADIUS)
            angles = np.sort(np.arccos(np.clip(x / (ring * RADIUS), -1, 1)))
            np.testing.assert_allclose(np.diff(angles), np.pi / 100, atol=1e-3)
    assert (taken == 1).all()


def test_nine_noisy_subsamples_of_each_core_sample_have_its_label_and_a_third_of_r_as_deviation() -> None:
    points = examples().train_inputs.astype(np.float64).reshape(10, CORES, 2)
    labels = examples().train_labels.reshape(10, CORES)
    assert (labels == labels[0]).all()
    noise = points[1:] - points[0]
    assert noise.std() == pytest.approx(RADIUS / 3, rel=0.02)
    assert noise.std(axis=(0, 1)) == pytest.approx([RADIUS / 3] * 2, rel=0.02)
    assert noise.mean(axis=(0, 1)) == pytest.approx([0, 0], abs=1e-3)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("x", "y", "ring", "label"),
    [
        # Above the axis, around (0, 0): odd rings are label 0.
        (0.1, 0.01, 1, 0),
        (0.0, 0.149, 1, 0),
        (0.0, 0.151, 2, 1),
        (-0.5, 0.001, 5, 0),
        (0.6, 0.8, 10, 1),
        # Below it, around (0.1, 0): odd rings are label 1.
        (0.1, -0.1, 1, 1),
        (0.1, -0.149, 1, 1),
        (0.1, -0.151, 2, 0),
        (0.0, -0.001, 1, 1),
        (0.7, -0.8, 10, 0),
        # The axis itself belongs to the lower half: 0.3 from (0.1, 0).
        (0.4, 0.0, 3, 1),
        (-0.2, 0.0, 3, 1),
        # Outside of all rings.
        (0.1, -0.04, 0, 0),
        (0.0, 1.06, 11, 0),
    ],
)
def test_the_correct_answer_is_the_label_of_the_nearest_semicircle(x: float, y: float, ring: int, label: int) -> None:
    found_ring, found_label = answer(x, y)
    assert found_ring == ring
    if 1 <= ring <= 10:
        assert found_label == label


def test_core_samples_have_the_correct_answer_as_their_label() -> None:
    points = examples().train_inputs[:CORES].astype(np.float64).reshape(-1, 2)
    _, labels = ring_and_label(points[:, 0], points[:, 1])
    assert np.array_equal(labels, examples().train_labels[:CORES])


def test_the_test_set_is_a_grid_over_all_ten_rings_with_the_correct_answers() -> None:
    points = examples().test_inputs.astype(np.float64).reshape(-1, 2)
    steps = points / 0.01
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert len(np.unique(np.rint(steps), axis=0)) == len(points)
    upper = points[:, 1] > 1e-6
    from_centre = np.hypot(points[:, 0] - np.where(upper, 0.0, RADIUS), points[:, 1]) / RADIUS
    assert from_centre.min() == pytest.approx(0.5, abs=0.1)
    assert from_centre.max() == pytest.approx(10.5, abs=0.1)
    # The area of half a ring from 0.5 r to 10.5 r on either side, in grid squares.
    area = np.pi * (10.5**2 - 0.5**2) * RADIUS**2
    assert len(points) * 0.01**2 == pytest.approx(area, rel=0.01)
    ring = np.rint(from_centre)
    clear = np.abs(np.abs(from_centre - ring) - 0.5) > 1e-6
    odd = ring % 2 == 1
    assert np.array_equal(examples().test_labels[clear], np.where(odd == upper, 0, 1)[clear])


def test_loading_twice_gives_the_same_points() -> None:
    np.random.seed(3)  # noqa: NPY002  the global state must not matter
    again = get_task("rings").load(Path("unused"))
    assert np.array_equal(again.train_inputs, examples().train_inputs)
    assert np.array_equal(again.test_inputs, examples().test_inputs)


@pytest.mark.slow
def test_the_128_8_network_loses_little_to_weights_more_to_activations_and_most_to_both() -> None:
    """Figure 2, 128-8: W2AF 98.8, WFA2 86.8, W2A2 66.4."""
    task = get_task("rings")
    bit_widths = [BitWidths(2, None), BitWidths(None, 2), BitWidths(2, 2)]
    found = {
        str(stage.bit_widths): result.test_accuracy
        for stage, result in evaluate(
            Architecture("plain", 8, 128), task, bit_widths, recipe=task.recipe("short"), data_root=Path("unused")
        )
    }
    of_float, *of_quantized = (found[name] for name in ("float", "W2AF", "WFA2", "W2A2"))
    assert of_float is not None
    assert of_float > 94
    assert [of_float, *of_quantized] == sorted([of_float, *of_quantized], reverse=True)
    assert len({of_float, *of_quantized}) == 4
