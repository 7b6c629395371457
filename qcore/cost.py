"""What a network costs, in closed form over its layer list: parameters, MACs, bit operations and model bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from qcore.bit_widths import FLOAT, FLOAT_BITS, BitWidths
from qcore.layer_bits import activation_bits, input_bits, weight_bits
from qcore.layers import Activation, BatchNorm, weight_layers
from qcore.recipe import QuantizerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qcore.architecture import Architecture
    from qcore.layers import Layer, Shape
    from qcore.tasks import Task

DESCRIBED_BIT_WIDTHS = (BitWidths(2, 2), BitWidths(2, None), BitWidths(None, 2))

_FLOAT_BYTES = FLOAT_BITS // 8


def parameters(layers: tuple[Layer, ...]) -> int:
    """Trainable parameters of the float network: weights, biases, and BN's scale and shift."""
    return _Sizes(layers).parameters


def state_values(layers: tuple[Layer, ...]) -> int:
    """Parameters plus BN's running means and variances: what the paper's Table 5 counts."""
    return _Sizes(layers).state_values


def macs(layers: tuple[Layer, ...]) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one input."""
    return _Sizes(layers).macs


def bit_operations(
    layers: tuple[Layer, ...], bit_widths: BitWidths, settings: QuantizerSettings, image_bits: int
) -> int:
    """Sum over layers of MACs x weight bits x bits of the values it reads; float counts 32."""
    return _Sizes(layers).bit_operations(bit_widths, settings, input_bits(layers, bit_widths, settings, image_bits))


def model_bytes(layers: tuple[Layer, ...], bit_widths: BitWidths, settings: QuantizerSettings) -> int:
    """Bytes of the network as deployed.

    Weights are packed at their bits, each layer to whole bytes, with a float32 step size per quantized layer;
    biases, BN (as one scale and one shift a channel) and one clipping value per quantized activation are float32.
    In float this is 4 bytes a parameter.
    """
    return _Sizes(layers).model_bytes(bit_widths, settings)


def float_bit_operations(macs: int) -> int:
    """Those of the float network, whose weights and values have 32 bits each."""
    return macs * FLOAT_BITS**2


def float_model_bytes(parameters: int) -> int:
    """Those of the float network, float32 a parameter."""
    return _FLOAT_BYTES * parameters


class _Sizes:
    """What costs are sums of, taken from a layer list in one pass: thousands of networks are described for a page."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self._weighted = tuple(weight_layers(layers))
        self._weights = [layer.weights for layer in self._weighted]
        self._macs = [layer.macs for layer in self._weighted]
        self._biases = sum(layer.shape[0] for layer in self._weighted if layer.bias)
        self._channels = sum(layer.shape[0] for layer in layers if type(layer) is BatchNorm)
        """That BN scales and shifts."""
        self._activations = [layer for layer in layers if type(layer) is Activation]

    @property
    def parameters(self) -> int:
        return sum(self._weights) + self._biases + 2 * self._channels

    @property
    def macs(self) -> int:
        return sum(self._macs)

    @property
    def state_values(self) -> int:
        return self.parameters + 2 * self._channels

    def bit_operations(self, bit_widths: BitWidths, settings: QuantizerSettings, reads: Mapping[str, int]) -> int:
        """``reads`` has the bits of the values that each weight layer reads."""
        bits = weight_bits(self._weighted, bit_widths, settings)
        return sum(
            macs * (bits[layer.name] or FLOAT_BITS) * reads[layer.name]
            for layer, macs in zip(self._weighted, self._macs, strict=True)
        )

    def model_bytes(self, bit_widths: BitWidths, settings: QuantizerSettings) -> int:
        values, packed = self._biases + 2 * self._channels, 0
        bits_of_layers = weight_bits(self._weighted, bit_widths, settings).values()
        for count, bits in zip(self._weights, bits_of_layers, strict=True):
            if bits is None:
                values += count
            else:
                values += 1
                packed += -(-count * bits // 8)
        if bit_widths.activation is not None:
            of_activations = (activation_bits(layer, bit_widths, settings) for layer in self._activations)
            values += sum(bits is not None for bits in of_activations)
        return packed + _FLOAT_BYTES * values


@dataclass(frozen=True)
class Description:
    """What ``quantrank describe`` says of an architecture."""

    architecture: str
    block: str
    depth: int
    """Weight layers on the main path."""
    width: int
    """Channels (units) of the first layer."""
    blocks_per_group: tuple[int, ...] | None
    parameters: int
    """Trainable ones of the float network."""
    state_values: int
    """Parameters and BN's running statistics: the paper's Table 5 counts these."""
    macs: int
    """Multiply-accumulates for one input."""
    bit_operations: dict[str, int]
    """For one input, by bit widths: MACs x weight bits x input bits, summed over layers; float counts 32 bits."""
    model_bytes: dict[str, int]
    """Bytes as deployed, by bit widths: packed weight codes, and float32 for all else."""


def describe(
    architecture: Architecture,
    task: Task,
    bit_widths: Sequence[BitWidths] = DESCRIBED_BIT_WIDTHS,
    settings: QuantizerSettings | None = None,
) -> Description:
    """An architecture's costs on a task, for the float network and each of the given bit widths.

    Raises:
        InvalidInput: when the architecture does not suit the task.

    >>> from qcore import Architecture, get_task
    >>> described = describe(Architecture.parse("basic-L8-D59"), get_task("cifar10"))
    >>> described.state_values  # Table 5: 1.05 M
    1046257
    >>> described.model_bytes
    {'float': 4175116, 'W2A2': 273310, 'W2AF': 273282, 'WFA2': 4175144}
    """
    sums = sums_of(architecture, task, tuple(bit_widths), settings or QuantizerSettings())
    return Description(
        architecture=architecture.name,
        block=architecture.block,
        depth=architecture.depth,
        width=architecture.width,
        blocks_per_group=architecture.blocks_per_group,
        **sums._asdict(),
    )


class Sums(NamedTuple):
    """What sums over the layers of a network tell, as in ``Description``."""

    parameters: int
    state_values: int
    macs: int
    bit_operations: dict[str, int]
    model_bytes: dict[str, int]


def sums_of(
    architecture: Architecture, task: Task, bit_widths: tuple[BitWidths, ...], settings: QuantizerSettings
) -> Sums:
    """An architecture's costs, from those of small networks that are remembered: deep ones are not built for them.

    Raises:
        InvalidInput: when the architecture does not suit the task.
    """
    architecture.check_suits(task)
    inputs = (task.input_shape, task.classes, task.input_bits)
    terms = [(times, _sums_of_one(each, inputs, bit_widths, settings)) for each, times in architecture.in_small()]
    if len(terms) == 1:
        return terms[0][1]
    return Sums(
        parameters=sum(times * each.parameters for times, each in terms),
        state_values=sum(times * each.state_values for times, each in terms),
        macs=sum(times * each.macs for times, each in terms),
        bit_operations=_sum([(times, each.bit_operations) for times, each in terms]),
        model_bytes=_sum([(times, each.model_bytes) for times, each in terms]),
    )


def parameters_of(architecture: Architecture, task: Task) -> int:
    """As ``parameters``, of layers that need not be made."""
    return sums_of(architecture, task, (), QuantizerSettings()).parameters


def macs_of(architecture: Architecture, task: Task) -> int:
    """As ``macs``, of layers that need not be made."""
    return sums_of(architecture, task, (), QuantizerSettings()).macs


@lru_cache(maxsize=2**14)
def _sums_of_one(
    architecture: Architecture,
    inputs: tuple[Shape, int, int],
    bit_widths: tuple[BitWidths, ...],
    settings: QuantizerSettings,
) -> Sums:
    shape, classes, image_bits = inputs
    layers = architecture.layers_for(shape, classes)
    sizes, widths = _Sizes(layers), [FLOAT, *bit_widths]
    reads = {bits.activation: input_bits(layers, bits, settings, image_bits) for bits in widths}
    return Sums(
        parameters=sizes.parameters,
        state_values=sizes.state_values,
        macs=sizes.macs,
        bit_operations={str(bits): sizes.bit_operations(bits, settings, reads[bits.activation]) for bits in widths},
        model_bytes={str(bits): sizes.model_bytes(bits, settings) for bits in widths},
    )


def _sum(terms: list[tuple[int, dict[str, int]]]) -> dict[str, int]:
    """By bit widths."""
    return {bits: sum(times * each[bits] for times, each in terms) for bits in terms[0][1]}
