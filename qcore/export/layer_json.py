"""Layer lists as JSON, and back from a file that may be damaged or not ours."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from pydantic import TypeAdapter, ValidationError

from qcore.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    GlobalAveragePool,
    Input,
    Layer,
    Linear,
    MaxPool,
    Resize,
    weight_layers,
)

if TYPE_CHECKING:
    from qcore.layers import Shape

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Layer)}
_MOST = 2**31 - 1


def layers_to_json(layers: tuple[Layer, ...]) -> list[dict[str, Any]]:
    """Each layer as its kind and its fields."""
    return [{"kind": type(layer).__name__, **asdict(layer)} for layer in layers]


def layers_from_json(values: object) -> tuple[Layer, ...]:
    """The layer list that ``layers_to_json`` made this of.

    Raises:
        ValueError: when it is no list of layers that fit one another; says which layer is wrong.
    """
    if not isinstance(values, list) or not values:
        raise ValueError("there is no list of layers")
    layers: list[Layer] = []
    shapes: dict[str, Shape] = {}
    for value in values:
        layer = _layer(value)
        if layer.name in shapes:
            raise ValueError(f"layer {layer.name} is there twice")
        unknown = [source for source in layer.inputs if source not in shapes]
        if unknown:
            raise ValueError(f"layer {layer.name} reads {unknown[0]}, which does not come before it")
        if isinstance(layer, Input) == bool(layers):
            raise ValueError("the first layer, and no other, has to be the input")
        if problem := _problem(layer, [shapes[source] for source in layer.inputs]):
            raise ValueError(f"layer {layer.name}: {problem}")
        layers.append(layer)
        shapes[layer.name] = layer.shape
    if not weight_layers(tuple(layers)):
        raise ValueError("no layer has weights")
    return tuple(layers)


@cache
def _adapter(kind: str) -> TypeAdapter[Layer]:
    return TypeAdapter(_KINDS[kind])


def _layer(value: object) -> Layer:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"{str(value)[:80]} is no layer of a kind this release knows")
    given = {name: each for name, each in value.items() if name != "kind"}
    unknown = given.keys() - {field.name for field in fields(_KINDS[kind])}
    if unknown:
        raise ValueError(f"a {kind} has no {min(unknown)}")
    try:
        layer = _adapter(kind).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"a {kind}'s {place}: {first['msg']}") from None
    for name, each in asdict(layer).items():
        for number in each if isinstance(each, list | tuple) else [each]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"a {kind}'s {name} is not finite")
            if isinstance(number, int) and not isinstance(number, bool) and not 1 <= number <= _MOST:
                raise ValueError(f"a {kind}'s {name} is out of range: {number}")
    return layer


def _problem(layer: Layer, sources: list[Shape]) -> str | None:
    """Why a layer does not fit the shapes it reads, as ``LayerList`` would have them."""
    shape = layer.shape
    match layer:
        case Input():
            return "an input reads nothing" if sources else None
        case Add():
            return None if len(sources) > 1 and set(sources) == {shape} else "adds unequal shapes"
        case Conv():
            if len(sources) != 1 or sources[0][0] != layer.in_channels:
                return "does not read its input's channels"
            if layer.in_channels % layer.groups or shape[0] % layer.groups or not layer.kernel_size % 2:
                return "has a kernel or groups that do not exist"
            return None if shape[1:] == _strided(sources[0], layer.stride) else _OTHER_SIZE
        case Linear():
            size = sources[0][0] * sources[0][1] * sources[0][2] if len(sources) == 1 else None
            return None if size == layer.in_features and shape[1:] == (1, 1) else "does not read its input's values"
        case GlobalAveragePool():
            if len(sources) != 1 or layer.positions != sources[0][1] * sources[0][2]:
                return "averages another number of positions than its input has"
            return None if shape == (sources[0][0], 1, 1) else "changes the channels"
        case MaxPool():
            if len(sources) != 1 or shape[0] != sources[0][0] or not layer.kernel_size % 2:
                return "has a kernel that does not exist, or changes the channels"
            return None if shape[1:] == _strided(sources[0], layer.stride) else _OTHER_SIZE
        case Concat():
            if not sources or any(source[1:] != shape[1:] for source in sources):
                return "joins unequal sizes"
            return None if shape[0] == sum(source[0] for source in sources) else "has not its inputs' channels"
        case Resize():
            fits = [(shape[0], *layer.in_size)] == sources
            return None if fits else "does not read its input's size, or changes the channels"
        case BatchNorm() | Activation():
            return None if sources == [shape] else "changes the shape"


_OTHER_SIZE = "has another height or width than its input and stride give"


def _strided(source: Shape, stride: int) -> tuple[int, ...]:
    return tuple(-(-size // stride) for size in source[1:])
