"""Recipes: everything beside architecture, task, bit widths and seed that decides a result. Immutable and hashed.

A recipe has a float part and a retraining part, because the float stage serves every retraining that starts from it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qcore.errors import InvalidInput

Bits = Annotated[int, Field(ge=2, le=8)]
Epochs = Annotated[int, Field(ge=1, le=1000)]
Augmentation = Literal["crop-flip", "random-resized-crop", "scale-crop"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def hash(self) -> str:
        """SHA-256 of the values, in hexadecimal; equal settings have equal hashes."""
        return _hash(self)


@lru_cache(maxsize=1024)
def _hash(part: _Part) -> str:
    return hashlib.sha256(part.model_dump_json().encode()).hexdigest()


class Schedule(_Part):
    """Optimizer and learning rate of one training run."""

    epochs: Epochs
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    decay: Literal["steps", "cosine"] = "cosine"
    """``steps``: x0.1 at each milestone; ``cosine``: to zero at the end. Both after a linear warm-up from near zero."""
    milestones: tuple[Epochs, ...] = ()
    warmup_epochs: Annotated[int, Field(ge=0, le=100)] = 0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum; Adam has its own constants (0.9, 0.999)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """L2 regularization of every weight, bias and BN parameter (not of clipping values)."""

    @model_validator(mode="after")
    def _milestones_rise_within_epochs(self) -> Schedule:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        if self.milestones and self.milestones[-1] >= self.epochs:
            raise ValueError(f"milestones must lie before the last of the {self.epochs} epochs")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs})")
        return self


class FloatRecipe(_Part):
    """How the float network is trained; batches and augmentation serve retraining too."""

    schedule: Schedule
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
    precision: Literal["fp32"] = "fp32"


class QuantizerSettings(_Part):
    """How weights and activations are quantized."""

    weight_levels: Literal["symmetric"] = "symmetric"
    """Integers from -(2^(n-1) - 1) to 2^(n-1) - 1 times the step size: ternary at 2 bits."""
    step_refresh: Literal["epoch"] = "epoch"
    """When the L2-optimal step sizes follow the float weights: at the start of every epoch."""
    first_last_weight_bits: Bits | None = 8
    """Weight bits of the first and the last layer when weights are quantized; None for float."""
    shortcut_bits: Bits = 8
    """Bits of the signed sums that pre-activation and depthwise shortcuts carry, when activations are quantized."""
    clipped_share: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    """Share of the float network's activations, on a calibration batch, that 2-bit clipping values start by clipping;
    every further bit quarters it."""
    clipping_weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    """L2 regularization of the clipping values (PACT)."""


class RetrainingRecipe(_Part):
    """How a quantized network is retrained from the float one."""

    schedule: Schedule
    quantizers: QuantizerSettings = QuantizerSettings()


class Recipe(_Part):
    """A float part and a retraining part. The name is what people call it and not part of its identity."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    float_part: FloatRecipe
    retraining: RetrainingRecipe

    @classmethod
    def stored(cls, values: dict[str, Any]) -> Recipe:
        """The recipe of which ``model_dump(mode="json")`` gave these values."""
        return cls.model_validate(values, strict=False)

    def hash(self) -> str:
        return hashlib.sha256(f"{self.float_part.hash()} {self.retraining.hash()}".encode()).hexdigest()


def override(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with some settings replaced, given as nested objects; its name says that it was changed.

    Raises:
        InvalidInput: for a setting that does not exist or a value it cannot have.

    >>> override(PAPER_CIFAR10, {"retraining": {"schedule": {"epochs": 90}}}).retraining.schedule.epochs
    90
    """
    values = _merged(recipe.model_dump(mode="json"), changes, "recipe")
    values["name"] = f"{recipe.name}*"
    try:
        changed = Recipe.model_validate_json(_json(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(["recipe", *map(str, first["loc"])])
        message = first["msg"].removeprefix("Value error, ")
        value = "this combination" if isinstance(first["input"], dict) else first["input"]
        raise InvalidInput(path, value, f"is refused: {message}", "GET /tasks shows the task's recipes") from None
    return recipe if changed.hash() == recipe.hash() else changed


def _json(values: dict[str, Any]) -> str:
    import json

    try:
        return json.dumps(values, allow_nan=False)
    except ValueError as error:
        raise InvalidInput("recipe", "NaN or infinity", str(error), "use finite numbers") from None


def _merged(values: dict[str, Any], changes: dict[str, Any], path: str) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        if key not in values:
            raise InvalidInput(f"{path}.{key}"[:200], change, "is not a setting", f"use one of {', '.join(values)}")
        if isinstance(values[key], dict):
            if not isinstance(change, dict):
                known = ", ".join(values[key])
                raise InvalidInput(f"{path}.{key}", change, "must be an object", f"give some of {known}")
            merged[key] = _merged(values[key], change, f"{path}.{key}")
        else:
            merged[key] = change
    return merged


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
