"""Recipes: everything beside architecture, task, bit widths and seed that decides a result. Immutable and hashed.

A recipe has a float part and a retraining part, because the float stage serves every retraining that starts from it.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from qcore.errors import InvalidInput
from qcore.levels import LevelSet
from qcore.wording import did_you_mean, fault, wanted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Bits = Annotated[int, Field(ge=2, le=8)]
Epochs = Annotated[int, Field(ge=1, le=1000)]
Precision = Literal["auto", "fp32", "bf16"]
Path = Literal["auto", "plain", "fused", "compiled"]
Augmentation = Literal["crop-flip", "random-resized-crop", "scale-crop"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def hash(self) -> str:
        """SHA-256 of the values, in hexadecimal; equal settings have equal hashes."""
        return _hash(self)


@lru_cache(maxsize=1024)
def _hash(part: _Part) -> str:
    # What was trained before there were shares keeps its hash.
    is_whole = isinstance(part, FloatRecipe | RetrainingRecipe) and part.schedule.epoch_share == 1
    text = part.model_dump_json(exclude={"schedule": {"epoch_share"}} if is_whole else None)
    return hashlib.sha256(text.encode()).hexdigest()


class Schedule(_Part):
    """Optimizer and learning rate of one training run."""

    epochs: Epochs
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    decay: Literal["steps", "cosine", "poly"] = "cosine"
    """``steps``: x0.1 at each milestone; ``cosine`` and ``poly``: to zero at the end, ``poly`` as (1 - progress)^power
    (DeepLab). All after a linear warm-up from near zero."""
    milestones: tuple[Epochs, ...] = ()
    """For ``steps`` only."""
    poly_power: Annotated[float, Field(gt=0, le=10)] = 0.9
    warmup_epochs: Annotated[int, Field(ge=0, le=100)] = 0
    epoch_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training split's batches that an epoch takes, drawn anew each time. Recipes cut short for a first
    comparison take less (``qcore.scaled_recipe``)."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum; Adam has its own constants (0.9, 0.999)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """L2 regularization of every weight, bias and BN parameter (not of clipping values)."""

    @model_validator(mode="after")
    def _settings_agree(self, info: ValidationInfo) -> Schedule:
        milestones, last = list(self.milestones), self.epochs - 1
        if milestones and self.decay != "steps" and not (info.context or {}).get("stored"):
            problem = f"have no effect with decay {self.decay!r}"
            raise InvalidInput("milestones", milestones, problem, "use [], or decay 'steps'")
        if milestones != (rising := sorted(set(milestones))):
            raise InvalidInput("milestones", milestones, "do not rise", f"use {rising}")
        if milestones and milestones[-1] > last:
            problem = f"do not lie within the {self.epochs} epochs"
            raise InvalidInput("milestones", milestones, problem, f"use none above {last}, or more epochs")
        if self.warmup_epochs > last:
            problem = f"leaves none of the {self.epochs} epochs"
            raise InvalidInput("warmup_epochs", self.warmup_epochs, problem, f"use at most {last}, or more epochs")
        return self


class CyclicSchedule(_Part):
    """Fine-tuning with a cyclic learning rate after retraining (paper, Section 4.2, Appendix B).

    The rate is ``base_learning_rate`` times a factor that changes eight times a cycle: 1, .1^.5, .1, .1^1.5, .01,
    .1^1.5, .1, .1^.5. The optimizer goes on from retraining, with its momentum and weight decay.
    """

    epochs: Epochs = 40
    cycle_epochs: Epochs = 8
    base_learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    """Section 5.4's for CIFAR-10 (rates from 1e-3 to 1e-5); Appendix B says 1e-4."""


class Checkpoint(_Part):
    """A float network to start from: a safetensors file with this project's names or torchvision's."""

    path: Annotated[str, Field(min_length=1, max_length=256)]
    """Below the data root."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of the file; filled in when the recipe is resolved, because it, not the path, says which network it is."""
    fine_tune: bool = False
    """Whether the float schedule trains it further; if not, it is the float network as it is."""


class FloatRecipe(_Part):
    """How the float network is trained; batches and augmentation serve retraining too."""

    schedule: Schedule
    checkpoint: Checkpoint | None = None
    """Start from this network instead of a random one."""
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 128
    augmentation: Augmentation = "crop-flip"
    """How training images are varied. ``crop-flip``: shifted by ``crop_padding``; ``random-resized-crop``: 8 to 100 %
    of the image's area, 3:4 to 4:3, resized to the input's size; ``scale-crop``: scaled by 0.5 to 2.0 in steps of 0.25
    and cut out at the input's size (DeepLabV3). All flip if ``flip`` says so."""
    crop_padding: Annotated[int, Field(ge=0, le=32)] = 0
    """Random crops of the image padded by so many zeros a side; 0 for none. For ``crop-flip`` only."""
    flip: bool = False
    """Random horizontal flips."""
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the training split held out for every choice between networks."""
    precision: Precision = "auto"
    """Of what training computes with: fp32, or bf16 with sums, statistics, weights and updates in fp32. ``auto`` is
    resolved to what is faster on the device. Accuracies are measured in fp32."""
    path: Path = "auto"
    """How training computes: layer by layer (``plain``); batch normalization, sums and activations in fused passes of
    C++ kernels (``fused``) or of torch's compiler (``compiled``). ``auto`` is resolved to the fastest of the device."""

    @property
    def epochs(self) -> int:
        """Those that are trained: none for a checkpoint that is taken as it is."""
        return 0 if self.checkpoint and not self.checkpoint.fine_tune else self.schedule.epochs


class QuantizerSettings(_Part):
    """How weights and activations are quantized."""

    weight_levels: LevelSet = "symmetric"
    """Which multiples of the step size weights can be: ``qcore.levels.weight_levels`` lists them."""
    weight_step: Literal["l2", "learned"] = "l2"
    """Where weight step sizes come from: least squared error (Hwang and Sung), or the loss's gradient (LSQ)."""
    step_refresh: Literal["once", "epoch", "step"] = "epoch"
    """When L2-optimal step sizes follow the float weights: only before retraining, at the start of every epoch or
    before every optimizer step. Learned ones follow the loss instead."""
    activation_step: Literal["pact", "learned"] = "pact"
    """Whether activations have a learned clipping value (PACT) or a learned step size (LSQ)."""
    first_last_weight_bits: Bits | Literal["same"] | None = 8
    """Weight bits of the first and the last layer when weights are quantized; ``same`` as the rest, null for float."""
    shortcut_bits: Bits | None = 8
    """Bits of the signed sums that pre-activation, depthwise and MobileNetV2 shortcuts carry, when activations are
    quantized; null for float."""
    requantized_sums: bool = True
    """Whether the sums of residual fully connected networks are quantized again (Fig. 10) or handed on as they are
    (Fig. 3)."""
    clipped_share: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Share of the float network's activations, on a calibration batch, that 2-bit clipping values start by clipping;
    every further bit quarters it."""
    initial_clipping_value: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Start every clipping value here instead (PACT's own initialization)."""
    clipping_weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    """L2 regularization of the clipping values (PACT)."""
    most_scale_change: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Most that one optimizer step may change a clipping value or a learned step size, as a share of it. It keeps very
    deep networks from breaking; others do not come near it."""


class RetrainingRecipe(_Part):
    """How a quantized network is retrained from the float one."""

    schedule: Schedule
    quantizers: QuantizerSettings = QuantizerSettings()
    most_gradient_norm: Annotated[float, Field(gt=0, le=1e9)] = 1e3
    """Gradients of a greater norm are scaled down to it. Healthy ones are hundreds of times smaller; where channels of
    a very deep network die, batch normalization amplifies gradients until they are not finite."""
    lipschitz_scale: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Factor of L_Lip (Eq. 8) in the loss; the paper's is 1e-4. 0 for none."""
    cyclic: CyclicSchedule | None = None
    """A fine-tuning phase after the schedule, with a cyclic learning rate (CLR)."""

    @property
    def epochs(self) -> int:
        """Of the schedule and of the cyclic phase after it."""
        return self.schedule.epochs + (self.cyclic.epochs if self.cyclic else 0)


class Recipe(_Part):
    """A float part and a retraining part. The name is what people call it and not part of its identity."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    float_part: FloatRecipe
    retraining: RetrainingRecipe

    @classmethod
    def stored(cls, values: dict[str, Any]) -> Recipe:
        """The recipe of which ``model_dump(mode="json")`` gave these values."""
        # Earlier releases took milestones that have no effect; what was trained by them can still be read.
        return cls.model_validate(values, strict=False, context={"stored": True})

    def hash(self) -> str:
        """SHA-256 of both parts' hashes, in hexadecimal; the name does not count."""
        return hashlib.sha256(f"{self.float_part.hash()} {self.retraining.hash()}".encode()).hexdigest()


def override(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with some settings replaced, given as nested objects; its name says that it was changed.

    Raises:
        InvalidInput: for a setting that does not exist or a value it cannot have.

    >>> override(PAPER_CIFAR10, {"retraining": {"schedule": {"epochs": 90}}}).retraining.schedule.epochs
    90
    """
    values = _merged(recipe.model_dump(mode="json"), changes, "recipe")
    values["name"] = f"{recipe.name.rstrip('*')}*"
    try:
        changed = Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False), values) from None
    return recipe if changed.hash() == recipe.hash() else changed


def _refusal(errors: list[ErrorDetails], values: dict[str, Any]) -> InvalidInput:
    """The first of pydantic's errors; what it says of other alternatives for the same setting is part of the remedy."""
    first = errors[0]
    path = _path(first, values)
    found = first.get("ctx", {}).get("error")
    if isinstance(found, InvalidInput):  # of settings that contradict each other
        return InvalidInput(f"{path}.{found.field}", found.value, found.problem, found.remedy)
    if first["type"] == "missing":
        return InvalidInput(path, None, "is missing", "add it")
    if first["type"] == "extra_forbidden":
        return InvalidInput(path, first["input"], "is not a setting", "leave it out")
    allowed = [wanted(each) for each in errors if _path(each, values) == path]
    return InvalidInput(path, first["input"], fault(first), f"give {' or '.join(dict.fromkeys(allowed))}")


def _path(error: ErrorDetails, values: dict[str, Any]) -> str:
    return ".".join(["recipe", *_place(error["loc"], values, missing=error["type"] == "missing")])


def _place(location: tuple[int | str, ...], values: Any, *, missing: bool) -> list[str]:
    """Where an error is among the settings; pydantic's location goes on with the alternatives of a type."""
    path: list[str] = []
    for part in location:
        if isinstance(values, list) and isinstance(part, int):
            values = values[part]
        elif isinstance(values, dict) and part in values:
            values = values[str(part)]
        else:
            return [*path, str(part)] if missing else path
        path.append(str(part))
    return path


def _merged(values: dict[str, Any], changes: dict[str, Any], path: str) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        if key not in values:
            meant = did_you_mean(key, values) or f"use one of {', '.join(values)}"
            raise InvalidInput(f"{path}.{key}"[:200], change, "is not a setting", meant)
        if isinstance(values[key], dict):
            if not isinstance(change, dict):
                known = ", ".join(values[key])
                raise InvalidInput(f"{path}.{key}", change, "must be an object", f"give some of {known}")
            merged[key] = _merged(values[key], change, f"{path}.{key}")
        else:
            merged[key] = change
    return merged


def differences(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    """The settings in which a recipe differs from another, with its own values, as JSON has them.

    >>> differences(override(PAPER_CIFAR10, {"retraining": {"lipschitz_scale": 1e-4}}), PAPER_CIFAR10)
    {'retraining.lipschitz_scale': 0.0001}
    """
    of_base = _settings(base.model_dump(mode="json", exclude={"name"}))
    own = _settings(recipe.model_dump(mode="json", exclude={"name"}))
    return {name: value for name, value in own.items() if name not in of_base or of_base[name] != value}


def in_words(differences: dict[str, Any]) -> str:
    """Settings and their values in a line.

    >>> in_words({"retraining.quantizers.weight_levels": "mid_rise", "retraining.quantizers.shortcut_bits": None})
    'retraining.quantizers.weight_levels = mid_rise, retraining.quantizers.shortcut_bits = null'
    """
    return ", ".join(
        f"{name} = {value if isinstance(value, str) else json.dumps(value)}" for name, value in differences.items()
    )


def _settings(values: dict[str, Any], group: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _settings(value, f"{group}{name}.") if isinstance(value, dict) else {f"{group}{name}": value}
    return found


PAPER_CIFAR10 = Recipe(
    name="paper",
    float_part=FloatRecipe(
        schedule=Schedule(epochs=200, decay="steps", milestones=(100, 150), weight_decay=5e-4),
        crop_padding=4,
        flip=True,
        validation_share=0.0,
    ),
    retraining=RetrainingRecipe(
        schedule=Schedule(epochs=100, learning_rate=0.01, decay="steps", milestones=(50, 80)),
    ),
)
"""Section 5.2: SGD with momentum 0.9, batch 128; L2 regularization in the float stage only."""
