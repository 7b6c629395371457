"""Loss and metrics against loops over single pixels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qcore.data import Data, Split
from qcore.metrics import cross_entropy, mean_iou, measure

ONE = torch.ones(1, 1, 1, 1)


class Given(nn.Module):
    """Outputs what it is told, example by example: an input is its example's number."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0, 0, 0].long()]


def measured(logits: Tensor, labels: Tensor, metric: Any) -> float:
    numbers = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1)
    split = Split(numbers, labels)
    return measure(Given(logits), Data(split, split, split, 0 * ONE, ONE, metric), split)


def iou_by_hand(predictions: list[int], labels: list[int], classes: int) -> float:
    kept = [(one, other) for one, other in zip(predictions, labels, strict=True) if other != -100]
    found = []
    for each in range(classes):
        both = sum(one == each and other == each for one, other in kept)
        either = sum(one == each or other == each for one, other in kept)
        if either:
            found.append(both / either)
    return 100 * sum(found) / len(found)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 6), st.floats(0, 0.9))
@settings(deadline=None, max_examples=60)
def test_miou_is_the_mean_over_classes_that_are_there_of_pixels_in_both_by_pixels_in_either(
    seed: int, count: int, classes: int, ignored: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, 3, 4, generator=random)
    # Only some of the classes, so that others are missing from the truth, and often from the prediction too.
    labels = torch.randint(0, classes // 2 + 1, (count, 3, 4), generator=random)
    labels[torch.rand(labels.shape, generator=random) < ignored] = -100
    labels[0, 0, 0] = 0
    expected = iou_by_hand(logits.argmax(1).flatten().tolist(), labels.flatten().tolist(), classes)
    assert measured(logits, labels, "mIOU") == pytest.approx(expected)


def test_a_class_in_neither_truth_nor_prediction_is_left_out_and_one_only_predicted_counts_as_zero() -> None:
    assert mean_iou(torch.tensor([[4, 0, 0], [0, 4, 0], [0, 0, 0]])) == 100
    assert mean_iou(torch.tensor([[4, 0, 1], [0, 5, 0], [0, 0, 0]])) == pytest.approx(100 * (4 / 5 + 1 + 0) / 3)


@given(st.integers(0, 2**32), st.integers(1, 1200))
@settings(deadline=None, max_examples=30)
def test_accuracy_is_the_percentage_of_right_answers_over_all_batches(seed: int, count: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(count, 3, generator=random), torch.randint(0, 3, (count,), generator=random)
    right = sum(max(range(3), key=row.__getitem__) == label for row, label in zip(logits.tolist(), labels, strict=True))
    assert measured(logits, labels, "accuracy") == 100 * right / count


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_the_loss_is_the_mean_over_pixels_that_are_not_ignored(seed: int, count: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 3, 2, 5, generator=random)
    labels = torch.randint(0, 3, (count, 2, 5), generator=random)
    labels[torch.rand(labels.shape, generator=random) < 0.4] = -100
    labels[0, 0, 0] = 2
    terms = []
    for image, y, x in ((i, j, k) for i in range(count) for j in range(2) for k in range(5)):
        label = int(labels[image, y, x])
        if label != -100:
            at = logits[image, :, y, x].double().tolist()
            terms.append(math.log(sum(map(math.exp, at))) - at[label])
    assert float(cross_entropy(logits, labels)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_the_loss_of_one_label_per_example_is_torchs_bit_for_bit() -> None:
    logits, labels = torch.randn(50, 10, requires_grad=True), torch.randint(0, 10, (50,))
    ours, theirs = cross_entropy(logits, labels), nn.functional.cross_entropy(logits, labels)
    assert torch.equal(ours, theirs)
    (one,), (other,) = torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits)
    assert torch.equal(one, other)
