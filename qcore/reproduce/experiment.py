"""What an experiment of the paper states: which networks, trained how, and how their results are shown.

Torch-free: an experiment can be planned, and its cost estimated, before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from qcore.bit_widths import FLOAT
from qcore.errors import InvalidInput
from qcore.recipe import QuantizerSettings, in_words
from qcore.stages import Stage
from qcore.statistics import Interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from qcore.architecture import Architecture
    from qcore.bit_widths import BitWidths
    from qcore.recipe import Recipe
    from qcore.tasks import Task

Scale: TypeAlias = Literal["smoke", "cpu", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)

Policy: TypeAlias = Literal["float", "8", "same"]
"""Weight bits of the first and the last layer."""
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True)
class Options:
    """What the caller chose instead of the experiment's own choice."""

    seeds: tuple[int, ...] | None = None
    policies: tuple[Policy, ...] | None = None


@dataclass(frozen=True)
class Variant:
    """One network under one recipe: a row of an experiment's tables."""

    network: str
    """As the paper calls it."""
    architecture: Architecture
    recipe: Recipe
    bit_widths: tuple[BitWidths, ...]
    """Quantized ones; the float network comes with every variant."""
    condition: str = ""
    """What sets variants of one network apart: a layer policy or a training method."""


@dataclass(frozen=True)
class Plan:
    """The training an experiment needs: every variant with every seed; no variants where nothing is trained."""

    scale: Scale
    task: Task
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    trains: bool = True
    """Whether this scale is one to train at; if not, what was trained at another is shown."""

    def stage(self, variant: Variant, bits: BitWidths, seed: int) -> Stage:
        """One training run of a variant; what its bit widths do not read is at its default in the recipe."""
        return Stage(self.task, variant.architecture, _with_what_matters(variant.recipe, bits), seed, bits)

    def stages(self) -> tuple[Stage, ...]:
        """Every training run once, each float one in front of those that start from it."""
        found: dict[str, Stage] = {}
        for seed in self.seeds:
            for variant in self.variants:
                for bits in (FLOAT, *variant.bit_widths):
                    stage = self.stage(variant, bits, seed)
                    found.setdefault(stage.key, stage)
        return tuple(found.values())

    def label(self, stage: Stage) -> str:
        """The stage's own label, and the conditions it is trained for where its network has others."""
        variants = [each for each in self.variants if each.architecture == stage.architecture]
        alike = [each for each in variants if self.stage(each, stage.bit_widths, stage.seed).key == stage.key]
        conditions = dict.fromkeys(each.condition for each in alike)
        if conditions.keys() == {each.condition for each in variants}:
            return stage.label
        return f"{stage.label} ({', '.join(conditions)})"


def _with_what_matters(recipe: Recipe, bits: BitWidths) -> Recipe:
    """The recipe with what these bit widths do not read at its default, so that equal runs have equal keys."""
    usual = QuantizerSettings()
    unread: tuple[str, ...] = ()
    if bits.weight is None:
        unread += ("weight_levels", "weight_step", "step_refresh", "first_last_weight_bits")
    if bits.activation is None:
        unread += ("activation_step", "shortcut_bits", "requantized_sums")
    changes = {name: getattr(usual, name) for name in unread}
    retraining = recipe.retraining
    quantizers = retraining.quantizers.model_copy(update=changes)
    return recipe.model_copy(update={"retraining": retraining.model_copy(update={"quantizers": quantizers})})


@dataclass(frozen=True)
class TrainedStage:
    """How a stage ended, as stored."""

    key: str
    status: Literal["done", "diverged"]
    test_accuracy: float | None
    """Percent by the task's metric; None where it diverged."""
    validation_accuracy: float | None
    train_seconds: float
    path: Path
    """The trained network's state, as safetensors."""
    divergence: str | None = None
    """Where it broke first, if it diverged and that was found."""


@dataclass(frozen=True)
class Results:
    """The trained stages of a plan, by key."""

    plan: Plan
    trained: dict[str, TrainedStage] = field(default_factory=dict)
    data_root: Path | None = None
    """Where pictures find the task's images; None where nothing was trained."""

    def trained_stage(self, variant: Variant, bits: BitWidths, seed: int) -> TrainedStage | None:
        """None where it was not trained."""
        return self.trained.get(self.plan.stage(variant, bits, seed).key)

    def accuracies(self, variant: Variant, bits: BitWidths) -> dict[int, float]:
        """Test accuracy by seed; those that diverged are left out."""
        found = {seed: self.trained_stage(variant, bits, seed) for seed in self.plan.seeds}
        return {seed: each.test_accuracy for seed, each in found.items() if each and each.test_accuracy is not None}


Cell: TypeAlias = str | int | float | Interval | None


@dataclass(frozen=True)
class Table:
    """Rows of measured beside published values."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Verdict:
    """Whether something the paper says holds here."""

    statement: str
    holds: bool
    """In the means over seeds."""
    seeds_that_hold: int | None = None
    seeds: int | None = None
    published: str | None = None
    """The paper's own figure for it, where that says more than the statement."""
    measured: str | None = None


@dataclass(frozen=True)
class Report:
    """What an experiment prints."""

    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper (or a comparison the paper leaves out) that can be run."""

    name: str
    title: str
    plan: Callable[[Scale, Options], Plan]
    report: Callable[[Results], Report]
    draw: Callable[[Results], Figure] | None = None
    """Draws the paper's picture; the only part that imports matplotlib."""
    has_policies: bool = False
    """Whether it compares layer policies."""
    reports_untrained: bool = False
    """Whether there is something to report before anything is trained (Table 1's costs)."""


def divergence_notes(results: Results) -> tuple[str, ...]:
    """What to say of stages that diverged: means are of the other seeds."""
    plan = results.plan
    stages = [stage for stage in plan.stages() if stage.key in results.trained]
    diverged = [stage for stage in stages if results.trained[stage.key].status == "diverged"]
    if not diverged:
        return ()
    found = (
        f"{plan.label(stage)}: {results.trained[stage.key].divergence or 'did not break again'}" for stage in diverged
    )
    return (f"{len(diverged)} of {len(stages)} stages diverged and are in no mean:", *found)


def recipe_notes(plan: Plan) -> tuple[str, ...]:
    """What is trained how: every recipe, with the settings that are not the task's, and the conditions it is for.

    Conditions that share a recipe are named together, and none where all do.
    """
    recipes = {variant.recipe.hash(): variant.recipe for variant in plan.variants}
    notes = []
    for key, recipe in recipes.items():
        conditions = dict.fromkeys(each.condition for each in plan.variants if each.recipe.hash() == key)
        of = f" of {', '.join(conditions)}" if len(recipes) > 1 else ""
        changes = in_words(plan.task.recipe_changes(recipe))
        notes.append(f"Recipe{of}: {recipe.name}{f' ({changes})' if changes else ''}.")
    return tuple(notes)


def with_policy(recipe: Recipe, policy: Policy) -> Recipe:
    """The recipe with those weight bits in the first and the last layer."""
    bits = {"float": None, "8": 8, "same": "same"}[policy]
    return with_quantizers(recipe, first_last_weight_bits=bits)


def with_quantizers(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with some of its quantizer settings replaced."""
    quantizers = QuantizerSettings.model_validate(recipe.retraining.quantizers.model_dump() | settings)
    retraining = recipe.retraining.model_copy(update={"quantizers": quantizers})
    return recipe.model_copy(update={"retraining": retraining})


def with_epochs(recipe: Recipe, float_epochs: int, retraining_epochs: int) -> Recipe:
    """The recipe with shorter schedules; warm-ups and milestones shrink with them."""
    float_part, retraining = recipe.float_part, recipe.retraining
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}, {float_epochs}+{retraining_epochs} epochs",
            "float_part": float_part.model_copy(update={"schedule": _shortened(float_part.schedule, float_epochs)}),
            "retraining": retraining.model_copy(
                update={"schedule": _shortened(retraining.schedule, retraining_epochs)}
            ),
        }
    )


def _shortened(schedule: Any, epochs: int) -> Any:
    share = epochs / schedule.epochs
    milestones = sorted({round(each * share) for each in schedule.milestones} - {0, epochs})
    changes = {
        "epochs": epochs,
        "milestones": tuple(milestones),
        "warmup_epochs": min(schedule.warmup_epochs, epochs - 1),
    }
    return type(schedule).model_validate(schedule.model_dump() | changes)


def chosen_seeds(options: Options, count: int) -> tuple[int, ...]:
    """The caller's seeds, or the first ``count``."""
    return options.seeds if options.seeds is not None else tuple(range(count))


def check_options(experiment: Experiment, options: Options) -> None:
    """Raises InvalidInput for options that the experiment does not have."""
    if options.policies is not None and not experiment.has_policies:
        raise InvalidInput(
            "policy", ",".join(options.policies), f"is no option of {experiment.name}", "leave --policy out"
        )
    for seed in options.seeds or ():
        if not 0 <= seed < 2**31:
            raise InvalidInput("seeds", seed, "is out of range", f"use 0 to {2**31 - 1}")
    if options.seeds is not None and len(set(options.seeds)) != len(options.seeds):
        raise InvalidInput("seeds", list(options.seeds), "holds a seed twice", "name every seed once")


def renamed(experiment: Experiment, name: str, title: str) -> Experiment:
    """The same experiment under another name of the paper."""
    return replace(experiment, name=name, title=title)


def by_network(variants: Sequence[Variant], condition: str) -> dict[str, Variant]:
    """The variants of one condition, by the paper's name of their network."""
    return {variant.network: variant for variant in variants if variant.condition == condition}
