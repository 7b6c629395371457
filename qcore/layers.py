"""The one description of a network: a list of layers, in order of computation, that needs no torch.

Costs are closed forms over this list (``qcore.cost``) and the torch network is built from the same list
(``qcore.network``), so what is reported and what is trained cannot disagree.

Shapes are (channels, height, width), without the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal, TypeAlias

Shape: TypeAlias = tuple[int, int, int]
Holds: TypeAlias = Literal["activation", "shortcut", "sum"]


@dataclass(frozen=True)
class Input:
    """The network's input: an image, or a vector as ``features x 1 x 1``."""

    name: str
    shape: Shape
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conv:
    """A square convolution, padded by ``dilation * (kernel_size // 2)``.

    >>> conv = Conv("conv", ("input",), in_channels=3, shape=(16, 32, 32), kernel_size=3, stride=1, groups=1)
    >>> conv.weight_shape, conv.weights, conv.macs
    ((16, 3, 3, 3), 432, 442368)
    """

    name: str
    inputs: tuple[str]
    in_channels: int
    shape: Shape
    kernel_size: int
    stride: int
    groups: int
    dilation: int = 1
    bias: bool = False

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(out_channels, in_channels / groups, kernel_size, kernel_size)."""
        return self.shape[0], self.in_channels // self.groups, self.kernel_size, self.kernel_size

    @property
    def weights(self) -> int:
        """How many there are, without biases."""
        return prod(self.weight_shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input; every position of the kernel counts, padding included."""
        _, height, width = self.shape
        return self.weights * height * width


@dataclass(frozen=True)
class Linear:
    """A fully connected layer with bias; reads its input flattened."""

    name: str
    inputs: tuple[str]
    in_features: int
    shape: Shape
    bias: Literal[True] = True

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(out_features, in_features)."""
        return self.shape[0], self.in_features

    @property
    def weights(self) -> int:
        """How many there are, without biases."""
        return prod(self.weight_shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input: one a weight."""
        return self.weights


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization (BN): each channel has a trained scale and shift, and a running mean and variance."""

    name: str
    inputs: tuple[str]
    shape: Shape


@dataclass(frozen=True)
class Activation:
    """Where activations are quantized: after a ReLU to unsigned values, or signed where a shortcut carries no ReLU.

    ``holds`` says which bits apply: ``activation`` follows the bit widths, ``shortcut`` the recipe's shortcut bits, and
    ``sum``, which is a sum of values that are quantized already, the bit widths if the recipe quantizes sums again.
    In the float network a ReLU stays a ReLU, cut at ``ceiling`` if it has one (6 in ReLU6), and a signed activation
    passes its input. Under bit widths the clipping value takes the ceiling's place.
    """

    name: str
    inputs: tuple[str]
    shape: Shape
    signed: bool
    holds: Holds
    ceiling: float | None = None


@dataclass(frozen=True)
class Add:
    """Elementwise sum of its inputs, times ``scale``."""

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    scale: float


@dataclass(frozen=True)
class GlobalAveragePool:
    """Each channel's mean over all positions: (channels, height, width) to (channels, 1, 1)."""

    name: str
    inputs: tuple[str]
    shape: Shape
    positions: int
    """How many values are averaged: height x width of the input."""


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each square, padded by ``kernel_size // 2``."""

    name: str
    inputs: tuple[str]
    shape: Shape
    kernel_size: int
    stride: int


@dataclass(frozen=True)
class Concat:
    """Its inputs' channels, one after the other."""

    name: str
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class Resize:
    """Bilinear interpolation to the height and width of ``shape``; the corners of input and output coincide.

    A convolution of stride s centres its output i on its input s * i, so with sizes of 16n + 1 pixels the values of a
    network of output stride 16 come to lie exactly where they were computed.
    """

    name: str
    inputs: tuple[str]
    shape: Shape
    in_size: tuple[int, int]


Layer: TypeAlias = Input | Conv | Linear | BatchNorm | Activation | Add | GlobalAveragePool | MaxPool | Concat | Resize
WeightLayer: TypeAlias = Conv | Linear


def tensor_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's tensors in the float network's state dict, by the end of their keys."""
    channels = layer.shape[0]
    match layer:
        case Conv():
            return {"weight": layer.weight_shape} | ({"bias": (channels,)} if layer.bias else {})
        case Linear():
            return {"weight": layer.weight_shape, "bias": (channels,)}
        case BatchNorm():
            per_channel = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
            return {**per_channel, "num_batches_tracked": ()}
        case _:
            return {}


def weight_layers(layers: tuple[Layer, ...]) -> list[WeightLayer]:
    """Layers that multiply by weights, in order; the first and the last of them have bits of their own."""
    return [layer for layer in layers if isinstance(layer, (Conv, Linear))]


@dataclass
class LayerList:
    """Builds a layer list; each method appends a layer that reads ``source`` and returns its name.

    It works out the shapes, and asserts that names are new and that shapes fit one another.
    """

    layers: list[Layer] = field(default_factory=list)
    _shapes: dict[str, Shape] = field(default_factory=dict)

    def input(self, shape: Shape) -> str:
        """What all others read from, named ``input``."""
        return self._append(Input("input", shape))

    def conv(
        self,
        name: str,
        source: str,
        channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        *,
        dilation: int = 1,
        bias: bool = False,
    ) -> str:
        """A convolution with an odd kernel; a side becomes ceil(side / stride), whatever kernel and dilation."""
        in_channels, height, width = self._shapes[source]
        assert in_channels % groups == 0
        assert channels % groups == 0
        assert kernel_size % 2 == 1
        out = (channels, -(-height // stride), -(-width // stride))
        return self._append(Conv(name, (source,), in_channels, out, kernel_size, stride, groups, dilation, bias))

    def linear(self, name: str, source: str, features: int) -> str:
        """A fully connected layer: (channels, height, width), flattened, to (features, 1, 1)."""
        channels, height, width = self._shapes[source]
        return self._append(Linear(name, (source,), channels * height * width, (features, 1, 1)))

    def batch_norm(self, name: str, source: str) -> str:
        """Batch normalization; the shape stays."""
        return self._append(BatchNorm(name, (source,), self._shapes[source]))

    def relu(self, name: str, source: str, holds: Holds = "activation", ceiling: float | None = None) -> str:
        """A ReLU, or with a ceiling of 6 a ReLU6, whose values are quantized unsigned."""
        return self._append(
            Activation(name, (source,), self._shapes[source], signed=False, holds=holds, ceiling=ceiling)
        )

    def signed_activation(self, name: str, source: str, holds: Holds) -> str:
        """The identity, whose values are quantized signed."""
        return self._append(Activation(name, (source,), self._shapes[source], signed=True, holds=holds))

    def add(self, name: str, sources: tuple[str, ...], scale: float = 1.0) -> str:
        """The elementwise sum of layers of one shape, times ``scale``."""
        shapes = {self._shapes[source] for source in sources}
        assert len(shapes) == 1, f"{name} adds unequal shapes {shapes}"
        return self._append(Add(name, sources, shapes.pop(), scale))

    def global_average_pool(self, name: str, source: str) -> str:
        """The mean over all positions: (channels, height, width) to (channels, 1, 1)."""
        channels, height, width = self._shapes[source]
        return self._append(GlobalAveragePool(name, (source,), (channels, 1, 1), height * width))

    def max_pool(self, name: str, source: str, kernel_size: int, stride: int) -> str:
        """Max pooling with an odd kernel; a side becomes ceil(side / stride)."""
        channels, height, width = self._shapes[source]
        assert kernel_size % 2 == 1
        out = (channels, -(-height // stride), -(-width // stride))
        return self._append(MaxPool(name, (source,), out, kernel_size, stride))

    def concat(self, name: str, sources: tuple[str, ...]) -> str:
        """(c1, height, width), (c2, height, width), ... to (c1 + c2 + ..., height, width)."""
        shapes = [self._shapes[source] for source in sources]
        sizes = {shape[1:] for shape in shapes}
        assert len(sizes) == 1, f"{name} joins unequal sizes {sizes}"
        return self._append(Concat(name, sources, (sum(shape[0] for shape in shapes), *sizes.pop())))

    def resize(self, name: str, source: str, height: int, width: int) -> str:
        """Bilinear interpolation to ``height`` x ``width`` pixels; channels stay."""
        channels, *in_size = self._shapes[source]
        return self._append(Resize(name, (source,), (channels, height, width), (in_size[0], in_size[1])))

    def shape(self, name: str) -> Shape:
        """That of a layer appended before."""
        return self._shapes[name]

    def _append(self, layer: Layer) -> str:
        assert layer.name not in self._shapes, f"{layer.name} is there twice"
        self.layers.append(layer)
        self._shapes[layer.name] = layer.shape
        return layer.name
