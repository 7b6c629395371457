"""What the paper publishes, as data: ``tables.json`` holds the numbers it prints and the orders its text states.

Boo, Shin and Sung (2020), "Quantized Neural Networks: Characterization and Holistic Optimization". Accuracies and mIOU
are in percent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Accuracies = dict[str, float]
"""Percent by bit widths, ``float`` among them."""


@dataclass(frozen=True)
class Ordering:
    """An order that the paper states: which networks come out above which others."""

    measure: str
    """Bit widths, for their accuracy, or ``drop_`` and bit widths, for how much below float they are."""
    order: tuple[tuple[str, ...], ...]
    """Best first; networks of one group are above all of the next, and not ordered among themselves."""
    where: str
    """Where the paper says so."""

    def __str__(self) -> str:
        name = self.measure.removeprefix("drop_")
        shown = f"{name} drop" if name != self.measure else name
        return f"{shown}: {' above '.join(' and '.join(group) for group in self.order)}"


@dataclass(frozen=True)
class ImageNetNetwork:
    """A row of Table 1 (ours, not those cited)."""

    name: str
    block: str
    """``preact`` or ``bottleneck``."""
    depth: int
    width: int
    blocks_per_group: tuple[int, ...]
    parameters_millions: float
    macs_billions: float
    accuracies: Accuracies


@dataclass(frozen=True)
class OneMillionNetwork:
    """A row of Table 5, whose numbers Figure 8 draws."""

    block: str
    depth: int
    width: int
    parameters_millions: float
    accuracies: Accuracies


def table_1() -> tuple[ImageNetNetwork, ...]:
    """ResNets on ImageNet, top-1 accuracy."""
    return tuple(
        ImageNetNetwork(name, block, depth, width, tuple(blocks), millions, billions, {"float": full, "W2A2": low})
        for name, block, depth, width, blocks, millions, billions, full, low in _tables()["table_1_imagenet_w2a2"][
            "rows"
        ]
    )


def table_2() -> dict[str, Accuracies]:
    """mIOU of MobileNetV2 on VOC 2012 by training method; ``pretrained`` is the float network."""
    found = _tables()["table_2_voc2012_miou"]
    return {"pretrained": {"float": found["pretrained_float"]}, **found["rows"]}


def table_3() -> dict[str, Accuracies]:
    """mIOU on VOC 2012 by training method, weights and activations quantized."""
    rows: dict[str, Accuracies] = _tables()["table_3_voc2012_miou"]["rows"]
    return rows


def table_4() -> dict[int, Accuracies]:
    """CIFAR-10 accuracy of ResNets by depth: ``float``, ``W2A2`` and ``W2A2+lipschitz+clr``."""
    found = _tables()["table_4_cifar10_resnet_accuracy"]
    columns = [name for name in found if name != "depth"]
    return {depth: {name: found[name][row] for name in columns} for row, depth in enumerate(found["depth"])}


def table_5() -> tuple[OneMillionNetwork, ...]:
    """CIFAR-10 accuracy of networks of about one million parameters."""
    found = _tables()["table_5_cifar10_one_million_parameters"]
    bit_widths = found["columns"][5:]
    return tuple(
        OneMillionNetwork(block, depth, width, millions, dict(zip(bit_widths, accuracies, strict=True)))
        for block, depth, width, _, millions, *accuracies in found["rows"]
    )


def synthetic(figure: str) -> dict[str, Accuracies]:
    """Accuracies of fully connected networks ("width-depth") that Figures 1, 2 and 3 print.

    >>> synthetic("figure-2")["256-4"]["W2A2"]
    88.8
    """
    found = _tables()["figures_1_2_3_synthetic_accuracy"]
    if figure == "figure-1":
        return {name: {"float": accuracy} for name, accuracy in found["figure_1_float"].items()}
    rows: dict[str, Accuracies] = found[{"figure-2": "figure_2_plain", "figure-3": "figure_3_residual"}[figure]]
    return rows


def orderings(name: str) -> tuple[Ordering, ...]:
    """The orders that the text states of a figure, e.g. ``figure_9``.

    >>> print(orderings("figure_2")[0])
    W2AF: 256-4 and 128-8 above 128-4
    """
    return tuple(
        Ordering(stated["bit_widths"], tuple(tuple(group) for group in stated["order"]), stated["section"])
        for stated in _tables()["orderings"][name]
    )


@cache
def _tables() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("qcore.paper").joinpath("tables.json").read_text("utf-8"))
    return found
