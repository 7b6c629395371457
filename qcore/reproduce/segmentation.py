"""Figures 5 and 12, Tables 2 and 3: DeepLabV3 on MobileNetV2, quantized, on PASCAL VOC 2012 (Sections 5.1 and 5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore import paper
from qcore.architecture import Architecture
from qcore.bit_widths import FLOAT, BitWidths
from qcore.recipe import Checkpoint, CyclicSchedule, Recipe
from qcore.reproduce.comparison import W2AF, WFA2, measured_cell
from qcore.reproduce.experiment import (
    Experiment,
    Options,
    Plan,
    Report,
    Results,
    Scale,
    Table,
    Variant,
    by_network,
    chosen_seeds,
)
from qcore.reproduce.training_methods import LIPSCHITZ_SCALE
from qcore.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from qcore.tasks import Task

ARCHITECTURE = "deeplabv3-mobilenetv2-x1.0"
CHECKPOINT = f"voc2012/{ARCHITECTURE}.safetensors"
"""The float network trained on the augmented images, below the data root; it is fine-tuned on the original ones."""
_CYCLE_EPOCHS, _CYCLES = 33, 5
"""3K iterations of 91 batches a cycle, and 15K in all (Section 5.4)."""
_CYCLE_BASE = 1e-5
"""Appendix B."""
_METHODS = {"retrain": (False, False), "retrain+clr": (False, True), "retrain+lipschitz": (True, False)}
_METHODS["retrain+lipschitz+clr"] = (True, True)
"""Whether with L_Lip and with CLR, by the names of ``qcore.paper``."""


@dataclass(frozen=True)
class SegmentationTable:
    """Training methods a row, bit widths a column."""

    name: str
    title: str
    methods: tuple[str, ...]
    bit_widths: tuple[BitWidths, ...]

    def plan(self, scale: Scale, options: Options) -> Plan:
        """Every method on VOC 2012; trained at scale paper only."""
        return self.plan_on(get_task("voc2012"), scale, options)

    def plan_on(self, task: Task, scale: Scale, options: Options) -> Plan:
        """As ``plan``, on a task of the caller's."""
        variants = tuple(
            Variant(ARCHITECTURE, Architecture.parse(ARCHITECTURE), _recipe(task, method), self.bit_widths, method)
            for method in self.methods
        )
        return Plan(scale, task, variants, chosen_seeds(options, 1), trains=scale == "paper")

    def report(self, results: Results) -> Report:
        """A row a method, with the paper's mIOU beside the measured one."""
        published = paper.table_2() if self.name == "table-2" else paper.table_3()
        columns = ["method", "float"]
        for bits in self.bit_widths:
            columns += [str(bits), f"{bits} paper"]
        rows = []
        for variant in results.plan.variants:
            pairs = [
                (measured_cell(results, variant, bits), published[variant.condition].get(str(bits)))
                for bits in self.bit_widths
            ]
            cells = [cell for pair in pairs for cell in pair]
            rows.append((variant.condition, measured_cell(results, variant, FLOAT), *cells))
        float_miou = paper.table_2()["pretrained"]["float"]
        note = f"mIOU on {results.plan.task.name}, %; the paper's float network has {float_miou}."
        return Report((Table(self.title, tuple(columns), tuple(rows)),), (), (note,))


@dataclass(frozen=True)
class SegmentationFigure:
    """Overlays of predictions on images: float, 2-bit weights, 2-bit activations."""

    name: str
    title: str
    images: int
    with_truth: bool

    def plan(self, scale: Scale, options: Options) -> Plan:
        """Plain retraining on VOC 2012; trained at scale paper only."""
        return self.plan_on(get_task("voc2012"), scale, options)

    def plan_on(self, task: Task, scale: Scale, options: Options) -> Plan:
        """As ``plan``, on a task of the caller's."""
        recipe = _recipe(task, "retrain")
        variant = Variant(ARCHITECTURE, Architecture.parse(ARCHITECTURE), recipe, (W2AF, WFA2), "retrain")
        return Plan(scale, task, (variant,), chosen_seeds(options, 1), trains=scale == "paper")

    def report(self, results: Results) -> Report:
        """The mIOU of the networks whose predictions are drawn."""
        variant = by_network(results.plan.variants, "retrain")[ARCHITECTURE]
        cells = tuple(measured_cell(results, variant, bits) for bits in (FLOAT, W2AF, WFA2))
        table = Table(self.title, ("network", "float", str(W2AF), str(WFA2)), ((ARCHITECTURE, *cells),))
        return Report((table,), (), ("mIOU, %; the paper prints none for these networks.",))

    def draw(self, results: Results) -> Figure:
        """The first test images with each network's classes over them."""
        from qcore.reproduce.pictures import segmentation_overlays

        return segmentation_overlays(self.title, results, self.images, with_truth=self.with_truth)


def _recipe(task: Task, method: str) -> Recipe:
    recipe = task.recipe("paper")
    with_lipschitz, with_cycles = _METHODS[method]
    cyclic = CyclicSchedule(epochs=_CYCLES * _CYCLE_EPOCHS, cycle_epochs=_CYCLE_EPOCHS, base_learning_rate=_CYCLE_BASE)
    changes = {"lipschitz_scale": LIPSCHITZ_SCALE if with_lipschitz else 0.0, "cyclic": cyclic if with_cycles else None}
    start = {"checkpoint": Checkpoint(path=CHECKPOINT, fine_tune=True)}
    return recipe.model_copy(
        update={
            "float_part": recipe.float_part.model_copy(update=start),
            "retraining": recipe.retraining.model_copy(update=changes),
        }
    )


_TABLES = (
    SegmentationTable(
        "table-2",
        "Table 2: weights or activations at 4 bits on VOC 2012",
        ("retrain", "retrain+clr", "retrain+lipschitz"),
        (BitWidths(4, None), BitWidths(None, 4)),
    ),
    SegmentationTable(
        "table-3",
        "Table 3: weights and activations quantized on VOC 2012",
        ("retrain", "retrain+lipschitz", "retrain+lipschitz+clr"),
        tuple(BitWidths(bits, bits) for bits in (8, 6, 4, 3)),
    ),
)
_FIGURES = (
    SegmentationFigure("figure-5", "Figure 5: quantized segmentation of VOC 2012", 2, with_truth=False),
    SegmentationFigure("figure-12", "Figure 12: more quantized segmentation of VOC 2012", 6, with_truth=True),
)

EXPERIMENTS = (
    *(Experiment(each.name, each.title, each.plan, each.report, each.draw) for each in _FIGURES),
    *(Experiment(each.name, each.title, each.plan, each.report) for each in _TABLES),
)
