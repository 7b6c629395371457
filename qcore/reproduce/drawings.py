"""Figures 4 and 11: the residual blocks and the cyclic learning rate. Nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.architecture import Architecture
from qcore.layers import Activation, Add, BatchNorm, Conv
from qcore.learning_rate import CYCLE
from qcore.reproduce.experiment import Experiment, Options, Plan, Report, Results, Scale, Table
from qcore.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qcore.layers import Layer

_BLOCKS = {"basic": Architecture("basic", 14, 16), "preact": Architecture("preact", 14, 16)}
_BLOCKS["depthwise"] = Architecture("depthwise", 20, 16)
_SHOWN = "group1_block2"
"""A block that keeps its shape and follows another."""
PAPER_CYCLE = (1.0, 0.1**0.5, 0.1, 0.1 * 0.1**0.5, 0.01, 0.1 * 0.1**0.5, 0.1, 0.1**0.5)
"""Appendix B, as printed."""


def plan(scale: Scale, _options: Options) -> Plan:
    """No training at any scale."""
    return Plan(scale, get_task("cifar10"), (), ())


def block_layers(block: str) -> tuple[Layer, ...]:
    """The layers of one residual block, from the list that networks are built from."""
    layers = _BLOCKS[block].layers(get_task("cifar10"))
    return tuple(layer for layer in layers if layer.name.startswith(f"{_SHOWN}_"))


def described(layer: Layer) -> str:
    """A layer in a few words: what Fig. 4 writes in its boxes."""
    match layer:
        case Conv():
            kind = "depthwise " if layer.groups > 1 else ""
            size = layer.kernel_size
            return f"{kind}{size}x{size} conv, {layer.in_channels} to {layer.shape[0]}"
        case BatchNorm():
            return "BN"
        case Activation(signed=True):
            return "QRA: signed shortcut value"
        case Activation():
            return "ReLU, QA"
        case Add():
            return "sum"
        case _:
            raise AssertionError(f"no residual block has a {type(layer).__name__}")


def blocks_report(_results: Results) -> Report:
    """The layers of each block, and what each of them reads."""
    tables = tuple(
        Table(
            f"{block} block",
            ("layer", "what", "reads"),
            tuple(
                (_short(layer.name), described(layer), ", ".join(map(_short, layer.inputs)))
                for layer in block_layers(block)
            ),
        )
        for block in _BLOCKS
    )
    notes = ("QA: quantized at the activation bits; QRA: at the recipe's shortcut bits (8).",)
    return Report(tables, (), notes)


def draw_blocks(_results: Results) -> Figure:
    """Fig. 4: the blocks as boxes with arrows."""
    from qcore.reproduce.pictures import block_diagrams

    diagrams = {
        f"({letter}) {block}": [
            (_short(layer.name), described(layer), tuple(map(_short, layer.inputs))) for layer in block_layers(block)
        ]
        for letter, block in zip("abc", _BLOCKS, strict=True)
    }
    return block_diagrams("Figure 4: residual blocks", diagrams)


def _short(name: str) -> str:
    if name.startswith(f"{_SHOWN}_"):
        return name.removeprefix(f"{_SHOWN}_")
    return "input"


def cycle_report(_results: Results) -> Report:
    """The factors of one cycle beside those that the paper prints."""
    rows = tuple(
        (index + 1, f"{ours:.6f}", f"{theirs:.6f}")
        for index, (ours, theirs) in enumerate(zip(CYCLE, PAPER_CYCLE, strict=True))
    )
    return Report((Table("Figure 11: factors of one cycle", ("step", "factor", "factor paper"), rows),))


def draw_cycle(_results: Results) -> Figure:
    """Fig. 11: the factors over some cycles."""
    from qcore.reproduce.pictures import cycles

    return cycles("Figure 11: learning rate scale factor", CYCLE)


EXPERIMENTS = (
    Experiment("figure-4", "Figure 4: residual blocks", plan, blocks_report, draw_blocks),
    Experiment("figure-11", "Figure 11: cyclic learning rate", plan, cycle_report, draw_cycle),
)
