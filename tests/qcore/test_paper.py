"""The paper's numbers as data: the right ones come out under the right names."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qcore import Architecture, get_task, paper
from qcore.cost import state_values


def test_table_1_has_its_seven_networks() -> None:
    rows = {row.name: row for row in paper.table_1()}

    assert len(rows) == 7
    assert rows["ResNet101"].accuracies == {"float": 77.5, "W2A2": 20.1}
    assert rows["ResNet44x1.1"].blocks_per_group == (3, 4, 5, 2)
    assert (rows["ResNet50x1.3"].parameters_millions, rows["ResNet50x1.3"].macs_billions) == (44.2, 7.2)


def test_tables_2_and_3_are_miou_by_method() -> None:
    assert paper.table_2()["pretrained"] == {"float": 76.97}
    assert paper.table_2()["retrain+clr"] == {"W4AF": 74.15, "WFA4": 74.71}
    assert paper.table_3()["retrain+lipschitz+clr"]["W4A4"] == 72.56


def test_table_4_is_by_depth() -> None:
    assert paper.table_4()[110] == {"float": 94.07, "W2A2": 83.71, "W2A2+lipschitz+clr": 87.77}
    assert list(paper.table_4()) == [20, 32, 56, 110]


def test_table_5_names_networks_whose_size_is_the_printed_one() -> None:
    rows = paper.table_5()

    assert len(rows) == 17
    assert rows[1].accuracies == {"float": 93.62, "W2AF": 93.51, "WFA2": 93.30, "W2A2": 93.11}
    for row in rows:
        layers = Architecture(row.block, row.depth, row.width).layers(get_task("cifar10"))
        assert state_values(layers) / 1e6 == pytest.approx(row.parameters_millions, rel=0.012)


def test_figures_1_to_3_are_by_network() -> None:
    assert paper.synthetic("figure-1") == {"128-3": {"float": 69.8}, "128-4": {"float": 99.1}, "256-3": {"float": 99.2}}
    assert paper.synthetic("figure-2")["128-8"] == {"W2AF": 98.8, "WFA2": 86.8, "W2A2": 66.4}
    assert paper.synthetic("figure-3")["128-4"] == {"W2AF": 91.0, "WFA2": 88.5, "W2A2": 84.8}


@pytest.mark.parametrize("figure", ["figure-1", "figure-2", "figure-3"])
def test_orders_stated_for_a_figure_hold_in_its_own_numbers(figure: str) -> None:
    printed = paper.synthetic(figure)

    for ordering in paper.orderings(figure.replace("-", "_")):
        values = [[printed[name][ordering.measure] for name in group] for group in ordering.order]
        assert all(min(one) > max(other) for one, other in pairwise(values)), ordering
