"""Depth x width maps: which network a cell stands for, where several have depth and width in common."""

from __future__ import annotations

from itertools import permutations

import pytest

from searcher.tables import Candidate
from service.routes.pages.heat_map import heat_maps

NAMES = ("imagenet-preact-L18-D8-B2.2.2.2", "imagenet-preact-L18-D8-B1.2.2.3", "imagenet-preact-L18-D8-B3.2.2.1")


@pytest.mark.parametrize("order", list(permutations(NAMES)), ids=lambda order: " ".join(name[-7:] for name in order))
@pytest.mark.parametrize(
    ("accuracies", "provisional", "stands"),
    [
        ({NAMES[0]: 70.0, NAMES[1]: 90.0, NAMES[2]: 80.0}, frozenset(), NAMES[1]),
        ({NAMES[0]: 70.0, NAMES[1]: 90.0, NAMES[2]: 80.0}, frozenset({NAMES[1]}), NAMES[2]),
        ({NAMES[2]: 10.0}, frozenset(), NAMES[2]),
        ({NAMES[2]: 10.0}, frozenset({NAMES[2]}), NAMES[2]),
    ],
)
def test_the_best_of_a_cells_networks_stands_for_them_whatever_their_order(
    order: tuple[str, ...], accuracies: dict[str, float], provisional: frozenset[str], stands: str
) -> None:
    candidates = [(Candidate(architecture=name, block="imagenet-preact", depth=18, width=8), ()) for name in order]

    (found,) = heat_maps(candidates, accuracies, frozenset(), provisional)

    (cell,) = found.cells.values()
    assert (cell.architecture, cell.accuracy) == (stands, accuracies[stands])
