"""What a network costs, in closed form over its layer list: parameters, MACs, bit operations and model bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.bit_widths import FLOAT, FLOAT_BITS, BitWidths
from qcore.layer_bits import activation_bits, input_bits, weight_bits
from qcore.layers import Activation, BatchNorm, Conv, Linear, weight_layers
from qcore.recipe import QuantizerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcore.architecture import Architecture
    from qcore.layers import Layer
    from qcore.tasks import Task

DESCRIBED_BIT_WIDTHS = (BitWidths(2, 2), BitWidths(2, None), BitWidths(None, 2))

_FLOAT_BYTES = FLOAT_BITS // 8


def parameters(layers: tuple[Layer, ...]) -> int:
    """Trainable parameters of the float network: weights, biases, and BN's scale and shift."""
    total = 0
    for layer in layers:
        match layer:
            case Conv() | Linear():
                total += layer.weights + (layer.shape[0] if layer.bias else 0)
            case BatchNorm():
                total += 2 * layer.shape[0]
            case _:
                pass
    return total


def state_values(layers: tuple[Layer, ...]) -> int:
    """Parameters plus BN's running means and variances: what the paper's Table 5 counts."""
    return parameters(layers) + sum(2 * layer.shape[0] for layer in layers if isinstance(layer, BatchNorm))


def macs(layers: tuple[Layer, ...]) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one input."""
    return sum(layer.macs for layer in weight_layers(layers))


def bit_operations(
    layers: tuple[Layer, ...], bit_widths: BitWidths, settings: QuantizerSettings, image_bits: int
) -> int:
    """Sum over layers of MACs x weight bits x bits of the values it reads; float counts 32."""
    weights = weight_bits(layers, bit_widths, settings)
    reads = input_bits(layers, bit_widths, settings, image_bits)
    return sum(layer.macs * (weights[layer.name] or FLOAT_BITS) * reads[layer.name] for layer in weight_layers(layers))


def model_bytes(layers: tuple[Layer, ...], bit_widths: BitWidths, settings: QuantizerSettings) -> int:
    """Bytes of the network as deployed.

    Weights are packed at their bits, each layer to whole bytes, with a float32 step size per quantized layer;
    biases, BN (as one scale and one shift a channel) and one clipping value per quantized activation are float32.
    In float this is 4 bytes a parameter.
    """
    weights = weight_bits(layers, bit_widths, settings)
    total = 0
    for layer in layers:
        match layer:
            case Conv() | Linear():
                bits = weights[layer.name]
                if bits is None:
                    total += _FLOAT_BYTES * layer.weights
                else:
                    total += -(-layer.weights * bits // 8) + _FLOAT_BYTES
                if layer.bias:
                    total += _FLOAT_BYTES * layer.shape[0]
            case BatchNorm():
                total += 2 * _FLOAT_BYTES * layer.shape[0]
            case Activation() if activation_bits(layer, bit_widths, settings) is not None:
                total += _FLOAT_BYTES
            case _:
                pass
    return total


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
    settings = settings or QuantizerSettings()
    layers = architecture.layers(task)
    widths = [FLOAT, *bit_widths]
    return Description(
        architecture=architecture.name,
        block=architecture.block,
        depth=architecture.depth,
        width=architecture.width,
        blocks_per_group=architecture.blocks_per_group,
        parameters=parameters(layers),
        state_values=state_values(layers),
        macs=macs(layers),
        bit_operations={str(bits): bit_operations(layers, bits, settings, task.input_bits) for bits in widths},
        model_bytes={str(bits): model_bytes(layers, bits, settings) for bits in widths},
    )
