"""Which bits each layer of a network gets under given bit widths: read by the costs and by the torch network alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.bit_widths import FLOAT_BITS
from qcore.layers import Activation, Concat, GlobalAveragePool, Input, MaxPool, Resize, weight_layers

if TYPE_CHECKING:
    from qcore.bit_widths import BitWidths
    from qcore.layers import Layer
    from qcore.recipe import QuantizerSettings


def weight_bits(layers: tuple[Layer, ...], bit_widths: BitWidths, settings: QuantizerSettings) -> dict[str, int | None]:
    """Bits of each weight layer by name, None for float; the first and the last layer have their own."""
    names = [layer.name for layer in weight_layers(layers)]
    bits: dict[str, int | None] = dict.fromkeys(names, bit_widths.weight)
    if bit_widths.weight is not None and settings.first_last_weight_bits != "same":
        bits[names[0]] = bits[names[-1]] = settings.first_last_weight_bits
    return bits


def activation_bits(layer: Activation, bit_widths: BitWidths, settings: QuantizerSettings) -> int | None:
    """Bits of the values an activation layer hands on, None for float."""
    if bit_widths.activation is None:
        return None
    match layer.holds:
        case "activation":
            return bit_widths.activation
        case "shortcut":
            return settings.shortcut_bits
        case "sum":
            return bit_widths.activation if settings.requantized_sums else None


def input_bits(
    layers: tuple[Layer, ...], bit_widths: BitWidths, settings: QuantizerSettings, image_bits: int
) -> dict[str, int]:
    """Bits of the values each weight layer reads, by its name; float counts 32.

    With float activations all of them do. Otherwise the network's input has the bits it is stored with (8 for
    images). An average over P positions of n-bit codes is a sum of them, which takes as many bits as P * (2^n - 1)
    does. Max pooling and spreading a single value hand on the codes they read; a concatenation has the bits of its
    widest part; values between others (resizing) and sums that are not quantized again are float.
    """
    if bit_widths.activation is None:
        return {layer.name: FLOAT_BITS for layer in weight_layers(layers)}
    bits: dict[str, int] = {}
    for layer in layers:
        match layer:
            case Input():
                bits[layer.name] = image_bits
            case Activation():
                bits[layer.name] = activation_bits(layer, bit_widths, settings) or FLOAT_BITS
            case GlobalAveragePool():
                codes = bits[layer.inputs[0]]
                if codes < FLOAT_BITS:
                    bits[layer.name] = min(FLOAT_BITS, (layer.positions * (2**codes - 1)).bit_length())
                else:
                    bits[layer.name] = FLOAT_BITS
            case MaxPool():
                bits[layer.name] = bits[layer.inputs[0]]
            case Concat():
                bits[layer.name] = max(bits[source] for source in layer.inputs)
            case Resize() if layer.in_size == (1, 1):
                bits[layer.name] = bits[layer.inputs[0]]
            case _:
                bits[layer.name] = FLOAT_BITS
    return {layer.name: bits[layer.inputs[0]] for layer in weight_layers(layers)}
