"""What an exported file says of its network, whatever its format. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from qcore.bit_widths import BitWidths
from qcore.export.layer_json import layers_from_json, layers_to_json
from qcore.recipe import QuantizerSettings

if TYPE_CHECKING:
    from qcore.architecture import Architecture
    from qcore.layers import Layer, Shape
    from qcore.stages import Stage
    from qcore.tasks import Task

_LARGEST = (2 - 2**-23) * 2.0**127
"""Of float32, in which inputs are normalized; Python's own integers have no bounds."""


@dataclass(frozen=True)
class NetworkDescription:
    """Everything about a trained network but its numbers. A file that carries it needs no registry to be read."""

    architecture: str
    task: str
    task_version: str
    classes: int
    input_bits: int
    """Bits of one input value as the task stores it: 8 for images, which networks read scaled to 0..1."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Inputs are normalized by these, per channel."""
    bit_widths: BitWidths
    quantizers: QuantizerSettings
    layers: tuple[Layer, ...]
    stage: str | None = None
    """Key of the training run the network comes from, if it comes from one."""

    @classmethod
    def of(
        cls,
        architecture: Architecture,
        task: Task,
        bit_widths: BitWidths,
        quantizers: QuantizerSettings | None = None,
        stage: str | None = None,
    ) -> NetworkDescription:
        """Of an architecture's network for a task.

        Raises:
            InvalidInput: when the architecture does not suit the task.
        """
        return cls(
            architecture=architecture.name,
            task=task.name,
            task_version=task.version,
            classes=task.classes,
            input_bits=task.input_bits,
            mean=task.mean,
            std=task.std,
            bit_widths=bit_widths,
            quantizers=quantizers or QuantizerSettings(),
            layers=architecture.layers(task),
            stage=stage,
        )

    @classmethod
    def of_stage(cls, stage: Stage) -> NetworkDescription:
        """Of the network a training run ends with."""
        settings = stage.recipe.retraining.quantizers
        return cls.of(stage.architecture, stage.task, stage.bit_widths, settings, stage.key)

    @property
    def input_shape(self) -> Shape:
        """(channels, height, width) of one input."""
        return self.layers[0].shape

    @property
    def label(self) -> str:
        """A name for files: letters, digits, dots, hyphens and underscores."""
        text = f"{self.architecture}_{self.task}_{self.bit_widths}"
        return "".join(each if each.isascii() and (each.isalnum() or each in "-._") else "-" for each in text)

    def to_json(self) -> dict[str, Any]:
        """As values that the json module takes; ``from_json`` reads them back."""
        return {
            "architecture": self.architecture,
            "task": self.task,
            "task_version": self.task_version,
            "classes": self.classes,
            "input_bits": self.input_bits,
            "mean": list(self.mean),
            "std": list(self.std),
            "bit_widths": str(self.bit_widths),
            "quantizers": self.quantizers.model_dump(mode="json"),
            "stage": self.stage,
            "layers": layers_to_json(self.layers),
        }

    @classmethod
    def from_json(cls, values: object) -> NetworkDescription:
        """What ``to_json`` made this of.

        Raises:
            ValueError: when it was not; says what is wrong.
        """
        if not isinstance(values, dict):
            raise ValueError("there is no description")
        layers = layers_from_json(values.get("layers"))
        channels = layers[0].shape[0]
        stage = values.get("stage")
        try:
            quantizers = QuantizerSettings.model_validate(values.get("quantizers"), strict=False)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ValueError(f"quantizers: {'.'.join(map(str, first['loc']))} {first['msg']}") from None
        return cls(
            architecture=_text(values, "architecture"),
            task=_text(values, "task"),
            task_version=_text(values, "task_version"),
            classes=_count(values, "classes"),
            input_bits=_count(values, "input_bits"),
            mean=_numbers(values, "mean", channels),
            std=_numbers(values, "std", channels, positive=True),
            bit_widths=BitWidths.parse(_text(values, "bit_widths")),
            quantizers=quantizers,
            layers=layers,
            stage=None if stage is None else _text(values, "stage"),
        )


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 1000:
        raise ValueError(f"{name} is no text")
    return value


def _count(values: dict[str, Any], name: str) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is no positive number")
    return value


def _numbers(values: dict[str, Any], name: str, count: int, *, positive: bool = False) -> tuple[float, ...]:
    value = values.get(name)
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{name} has to have one number for each of the {count} input channels")
    for each in value:
        if not isinstance(each, int | float) or isinstance(each, bool) or not abs(each) <= _LARGEST:
            raise ValueError(f"{name} holds {str(each)[:40]}, which is no float32")
        if positive and each <= 0:
            raise ValueError(f"{name} holds {each!r}, which is not positive")
    return tuple(float(each) for each in value)
