"""Bit widths of a network: how many bits its weights and its activations have (``W2A2``, ``W2AF``, ``WFA2``)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qcore.errors import InvalidInput

LEAST_BITS, MOST_BITS = 2, 8
FLOAT_BITS = 32

_PATTERN = re.compile(r"W([1-9]\d*|F)A([1-9]\d*|F)", re.ASCII)


@dataclass(frozen=True)
class BitWidths:
    """Bits of weights and activations, 2 to 8, or ``None`` for float.

    Eq. (1) of Boo, Shin and Sung (2020) has no 1-bit case for weights: their clipping value is 0 there.

    Raises:
        InvalidInput: for other numbers of bits.

    >>> BitWidths.parse("W2AF")
    BitWidths(weight=2, activation=None)
    >>> str(BitWidths(4, 8)), str(FLOAT)
    ('W4A8', 'float')
    """

    weight: int | None
    activation: int | None

    def __post_init__(self) -> None:
        for bits in (self.weight, self.activation):
            if bits is not None and not LEAST_BITS <= bits <= MOST_BITS:
                raise InvalidInput("bit_widths", str(self), "is out of range", _REMEDY)

    @classmethod
    def parse(cls, text: str) -> BitWidths:
        """The bit widths that a name such as ``W2A2`` stands for; ``float`` is the float network.

        Raises:
            InvalidInput: for anything else, 1-bit and ``WFAF`` included.
        """
        if text == "float":
            return FLOAT
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InvalidInput("bit_widths", text, "is not known", _REMEDY)
        # Long digit strings are refused by length: int() of thousands of digits is slow, and raises.
        weight, activation = (None if part == "F" else int(part[:4]) for part in match.groups())
        if weight is None and activation is None:
            raise InvalidInput("bit_widths", text, "is the float network, which is always trained", _REMEDY)
        return cls(weight, activation)

    @property
    def is_float(self) -> bool:
        """Whether neither weights nor activations are quantized: the float stage's bit widths."""
        return self.weight is None and self.activation is None

    def __str__(self) -> str:
        if self.is_float:
            return "float"
        return f"W{self.weight or 'F'}A{self.activation or 'F'}"


_REMEDY = f"use W<bits>A<bits> with {LEAST_BITS} to {MOST_BITS} bits or F for float, e.g. W2A2, W2AF, WFA2 or W4A8"

FLOAT = BitWidths(None, None)
"""The float network's: neither weights nor activations are quantized."""
