"""The paper's pictures, drawn by matplotlib without a display. Imported only when a picture is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qcore.bit_widths import FLOAT
from qcore.checkpoints import read_tensors
from qcore.data import evaluation_batches, load_data
from qcore.network import Network
from qcore.statistics import Interval, mean_interval
from qcore.tasks import Examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from qcore.bit_widths import BitWidths
    from qcore.reproduce.experiment import Cell, Results, Variant

    Map = npt.NDArray[np.int64]

_MAP_SIDE = 240
_PANEL_INCHES = 2.3
_COLORS = {
    "float": "black",
    "W2AF": "tab:blue",
    "WFA2": "tab:orange",
    "W2A2": "tab:red",
    "W2A3": "tab:purple",
    "WFA3": "tab:green",
    "W2A4": "tab:pink",
    "WFA4": "tab:olive",
}
_SEGMENTATION_NAMES = {"float": "float", "W2AF": "2-bit W", "WFA2": "2-bit A"}
_CPU = torch.device("cpu")
_QUARTER = (0.0, 1.0, -1.0, 0.0)
_WHOLE = (-1.0, 1.1, -1.1, 1.0)


def prediction_maps(title: str, results: Results) -> Figure:
    """Predicted classes on the plane, a network a row and bit widths a column, from the first seed.

    Quantized networks show the bottom-right quarter (0 < x < 1, -1 < y < 0), as the paper's figures do; float ones
    show the whole plane beside the training points (Fig. 1).
    """
    quantized = any(variant.bit_widths for variant in results.plan.variants)
    return _quantized_maps(title, results) if quantized else _float_maps(title, results)


def _quantized_maps(title: str, results: Results) -> Figure:
    columns = [FLOAT, *results.plan.variants[0].bit_widths]
    variants = results.plan.variants
    figure, panels = _figure(title, len(variants), len(columns))
    for row, variant in enumerate(variants):
        for column, bits in enumerate(columns):
            axes = panels[row][column]
            _show_map(axes, results, variant, bits, _QUARTER)
            if row == 0:
                axes.text(0.5, 1.2, str(bits), transform=axes.transAxes, ha="center", fontsize="medium")
        panels[row][0].set_ylabel(f"{variant.network}\n{variant.condition}", fontsize="small")
    return figure


def _float_maps(title: str, results: Results) -> Figure:
    figure, panels = _figure(title, 1, 1 + len(results.plan.variants))
    axes = panels[0][0]
    examples = results.plan.task.load(Path())
    assert isinstance(examples, Examples)
    points, labels = examples.train_inputs.reshape(-1, 2), examples.train_labels
    axes.scatter(points[:, 0], points[:, 1], c=labels, s=0.4, cmap="coolwarm", linewidths=0, rasterized=True)
    _frame(axes, "training points", _WHOLE)
    for panel, variant in zip(panels[0][1:], results.plan.variants, strict=True):
        _show_map(panel, results, variant, FLOAT, _WHOLE)
        panel.set_title(f"{variant.network} {panel.get_title()}", fontsize="small")
    return figure


def _show_map(
    axes: Axes, results: Results, variant: Variant, bits: BitWidths, extent: tuple[float, float, float, float]
) -> None:
    trained = results.trained_stage(variant, bits, results.plan.seeds[0])
    if trained is None or trained.test_accuracy is None:
        _frame(axes, "diverged", extent)
        return
    classes = predicted_map(_network(results, variant, bits), extent, _MAP_SIDE)
    axes.imshow(classes, extent=extent, origin="lower", cmap="coolwarm", vmin=0, vmax=1, interpolation="nearest")
    _frame(axes, f"({trained.test_accuracy:.1f} %)", extent)


@torch.no_grad()
def predicted_map(network: Network, extent: tuple[float, float, float, float], side: int) -> Map:
    """Classes at the centres of side x side cells of the plane (x0, x1, y0, y1), rows from y0 up."""
    x0, x1, y0, y1 = extent
    centre = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(y0 + centre * (y1 - y0), x0 + centre * (x1 - x0), indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=1).reshape(-1, 2, 1, 1)
    network.eval()
    classes: Map = network(points).argmax(1).reshape(side, side).numpy()
    return classes


def _network(results: Results, variant: Variant, bits: BitWidths) -> Network:
    stage = results.plan.stage(variant, bits, results.plan.seeds[0])
    stored = read_tensors(results.trained[stage.key].path)
    assert stored is not None, f"{stage.label} is not stored"
    network = Network(variant.architecture.layers(results.plan.task), bits, stage.recipe.retraining.quantizers)
    network.load_state_dict(stored[0])
    return network


def _frame(axes: Axes, title: str, extent: tuple[float, float, float, float]) -> None:
    axes.set_title(title, fontsize="small")
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")


def accuracy_against_depth(title: str, results: Results, cells: Mapping[tuple[str, str], Cell]) -> Figure:
    """A panel a block kind, a line for float and each of the bit widths, with the intervals as bars."""
    blocks = list(dict.fromkeys(variant.architecture.block for variant in results.plan.variants))
    figure, panels = _figure(title, 1, len(blocks), panel_inches=(3.4, 3.2), share_y=True)
    for axes, block in zip(panels[0], blocks, strict=True):
        variants = [variant for variant in results.plan.variants if variant.architecture.block == block]
        for bits in (FLOAT, *variants[0].bit_widths):
            found = [(variant.architecture.depth, cells[variant.network, str(bits)]) for variant in variants]
            _line(axes, str(bits), [(str(depth), cell) for depth, cell in found])
        axes.set(title=f"{block} blocks", xlabel="depth")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy (%)")
    panels[0][0].legend(fontsize="small")
    return figure


def accuracy_lines(title: str, results: Results, groups: Mapping[str, Sequence[Variant]]) -> Figure:
    """A panel a group of networks, their names along the axis, a line for each of the bit widths."""
    figure, panels = _figure(title, 1, len(groups), panel_inches=(4.2, 3.4))
    for axes, (name, variants) in zip(panels[0], groups.items(), strict=True):
        for bits in (FLOAT, *variants[0].bit_widths):
            found = [(variant.network, list(results.accuracies(variant, bits).values())) for variant in variants]
            _line(axes, str(bits), [(network, mean_interval(values) if values else None) for network, values in found])
        axes.set_title(name)
        axes.tick_params("x", rotation=30)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy (%)")
    panels[0][0].legend(fontsize="small")
    return figure


def accuracy_by_condition(title: str, results: Results, bits: BitWidths) -> Figure:
    """Every seed as a dot and the mean with its interval, a panel a network, a column a condition."""
    networks = list(dict.fromkeys(variant.network for variant in results.plan.variants))
    figure, panels = _figure(title, 1, len(networks), panel_inches=(3.6, 3.4))
    for axes, network in zip(panels[0], networks, strict=True):
        variants = [variant for variant in results.plan.variants if variant.network == network]
        for column, variant in enumerate(variants):
            found = list(results.accuracies(variant, bits).values())
            axes.plot([column] * len(found), found, "o", color="tab:gray", markersize=3)
            if found:
                interval = mean_interval(found)
                axes.errorbar([column], [interval.mean], yerr=[interval.half_width or 0.0], fmt="_", capsize=4)
        axes.set_xticks(range(len(variants)), [variant.condition for variant in variants], rotation=20)
        axes.set_title(network)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy (%)")
    return figure


def _line(axes: Axes, name: str, points: Sequence[tuple[str, Cell]]) -> None:
    found = [(label, cell) for label, cell in points if isinstance(cell, Interval)]
    axes.errorbar(
        [label for label, _ in found],
        [cell.mean for _, cell in found],
        yerr=[cell.half_width or 0.0 for _, cell in found],
        label=name,
        color=_COLORS[name],
        marker="o",
        markersize=4,
        capsize=3,
        linestyle="-",
    )


def _figure(
    title: str,
    rows: int,
    columns: int,
    *,
    panel_inches: tuple[float, float] = (_PANEL_INCHES, _PANEL_INCHES),
    share_y: bool = False,
) -> tuple[Figure, Any]:
    width, height = panel_inches
    figure = Figure(figsize=(0.6 + width * columns, 0.6 + height * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=share_y)


def cycles(title: str, factors: Sequence[float], count: int = 3) -> Figure:
    """The learning rate's factor over some cycles, the first one marked."""
    figure, panels = _figure(title, 1, 1, panel_inches=(5.0, 3.0))
    axes = panels[0][0]
    values = [*(list(factors) * count), factors[0]]
    axes.step(range(len(values)), values, where="post", color="black")
    axes.axvspan(0, len(factors), fill=False, edgecolor="red", linestyle="--")
    axes.set(yscale="log", xlabel="eighths of a cycle", ylabel="LR scale factor")
    return figure


def block_diagrams(title: str, diagrams: Mapping[str, Sequence[tuple[str, str, tuple[str, ...]]]]) -> Figure:
    """A column of boxes a block, from (name, text, names of what it reads), in order; arrows say what reads what."""
    tallest = max(map(len, diagrams.values()))
    figure, panels = _figure(title, 1, len(diagrams), panel_inches=(3.0, 0.5 * (tallest + 1)))
    for axes, (name, boxes) in zip(panels[0], diagrams.items(), strict=True):
        heights = {"input": float(tallest)}
        axes.text(0, tallest, "input", ha="center", va="center", fontsize="small")
        for index, (box, text, sources) in enumerate(boxes):
            heights[box] = tallest - index - 1.0
            axes.text(0, heights[box], text, ha="center", va="center", fontsize="small", bbox={"facecolor": "white"})
            for source in sources:
                _arrow(axes, heights[source], heights[box])
        axes.set(title=name, xlim=(-1.1, 1.1), ylim=(-0.6, tallest + 0.5))
        axes.set_axis_off()
    return figure


def _arrow(axes: Axes, start: float, end: float) -> None:
    """Down to the next box, or around the boxes between."""
    if start - end == 1:
        axes.annotate("", (0, end + 0.28), (0, start - 0.28), arrowprops={"arrowstyle": "->"})
    else:
        axes.plot([0.25, 1.0, 1.0], [start, start, end], color="black", linewidth=1)
        axes.annotate("", (0.2, end), (1.0, end), arrowprops={"arrowstyle": "->", "shrinkA": 0})


@torch.no_grad()
def segmentation_overlays(title: str, results: Results, count: int, *, with_truth: bool) -> Figure:
    """The first test images a row each: the image, the truth if wanted, then every network's classes over it."""
    (variant,) = results.plan.variants
    data = load_data(results.plan.task, variant.recipe.float_part.validation_share, results.data_root or Path(), _CPU)
    x, labels = next(evaluation_batches(data, data.test))
    x, labels = x[:count], labels[:count]
    images = (x * data.std + data.mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    masks = {"ground truth": labels.numpy()} if with_truth else {}
    for bits in (FLOAT, *variant.bit_widths):
        name = _SEGMENTATION_NAMES[str(bits)]
        if results.accuracies(variant, bits).get(results.plan.seeds[0]) is None:
            masks[f"{name}: diverged"] = np.zeros(labels.shape, dtype=np.int64)
        else:
            masks[name] = _network(results, variant, bits).eval()(x).argmax(1).numpy()
    figure, panels = _figure(title, len(images), 1 + len(masks))
    for row, image in zip(range(len(images)), images, strict=True):
        panels[row][0].imshow(image)
        panels[row][0].set_title("image", fontsize="small")
        for axes, (name, classes) in zip(panels[row][1:], masks.items(), strict=True):
            axes.imshow(image)
            shown = classes[row]
            axes.imshow(shown, cmap="tab20", vmin=1, vmax=20, alpha=0.65 * (shown > 0), interpolation="nearest")
            axes.set_title(name, fontsize="small")
        for axes in panels[row]:
            axes.set(xticks=[], yticks=[])
    return figure
