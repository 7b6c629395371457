"""The packed format: weights at their true bit widths, in a file of model bytes plus a header (docs/packed-format.md).

A file is the magic, four little-endian uint32 (version, header bytes, payload bytes, CRC-32 of all that follows), a
JSON header padded with spaces, and the payload: every float32, then every layer's packed codes. The payload has exactly
as many bytes as ``qcore.cost.model_bytes`` says.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from qcore.cost import model_bytes
from qcore.errors import InvalidInput
from qcore.export.deployed import (
    ActivationGrid,
    DeployedNetwork,
    FloatWeights,
    QuantizedWeights,
    ScaleAndShift,
)
from qcore.export.description import NetworkDescription
from qcore.layer_bits import activation_bits, weight_bits
from qcore.layers import Activation, BatchNorm, Conv, Linear
from qcore.levels import Levels, activation_levels, weight_levels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qcore.export.deployed import FloatArray

MAGIC = b"QRPACKED"
VERSION = 1

_PREAMBLE = struct.Struct("<8s4I")
_ALIGNMENT = 16


@dataclass(frozen=True)
class PackedFile:
    """A network in the packed format, with the sizes its file states."""

    network: DeployedNetwork
    header_bytes: int
    """Everything before the payload."""
    payload_bytes: int
    """The network's model bytes."""


@dataclass(frozen=True)
class _Tensor:
    """One run of the payload. Codes of ``bits`` bits start at ``lowest``, and code c stands for (c + offset) * step."""

    layer: str
    holds: Literal["weight codes", "weights", "weight step", "bias", "scale", "shift", "activation step"]
    shape: tuple[int, ...]
    at: int
    bits: int = 32
    levels: Levels | None = None

    @property
    def size_bytes(self) -> int:
        return -(-int(np.prod(self.shape, dtype=np.int64)) * self.bits // 8)

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"layer": self.layer, "holds": self.holds, "shape": list(self.shape)}
        told |= {"at": self.at, "bytes": self.size_bytes, "bits": self.bits}
        if self.levels is not None:
            told |= {"lowest": self.levels.lowest, "highest": self.levels.highest, "offset": self.levels.offset}
        return told


def pack(network: DeployedNetwork) -> bytes:
    """A network as the content of a packed file."""
    table = list(_table(network.description))
    floats, codes = bytearray(), bytearray()
    for tensor in table:
        if tensor.holds == "weight codes":
            weights = network.weights[tensor.layer]
            assert isinstance(weights, QuantizedWeights)
            codes += pack_codes(weights.codes, weights.levels, weights.bits)
        else:
            floats += _float_values(network, tensor).astype("<f4").tobytes()
    payload = bytes(floats + codes)
    told = {"description": network.description.to_json(), "tensors": [tensor.to_json() for tensor in table]}
    text = json.dumps(told, separators=(",", ":"), allow_nan=False).encode()
    header_bytes = -(-(_PREAMBLE.size + len(text)) // _ALIGNMENT) * _ALIGNMENT
    body = text.ljust(header_bytes - _PREAMBLE.size) + payload
    return _PREAMBLE.pack(MAGIC, VERSION, header_bytes, len(payload), zlib.crc32(body)) + body


def read_packed(path: Path) -> PackedFile:
    """Reads and validates a packed file.

    Raises:
        InvalidInput: naming the file, when it cannot be read, is none, is damaged, or says what cannot be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput("file", str(path), f"cannot be read ({error.strerror})", "name a packed file") from None
    return unpack(content, str(path))


def unpack(content: bytes, name: str = "packed network") -> PackedFile:
    """The network of a packed file's content.

    Raises:
        InvalidInput: as ``read_packed``; ``name`` is what the message calls the file.
    """
    try:
        return _unpacked(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("file", name, f"is not a whole packed network: {error}", _REMEDY) from None


_REMEDY = "write it again with `quantrank export --format packed`"


def _unpacked(content: bytes) -> PackedFile:
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC.decode()}")
    if len(content) < _PREAMBLE.size:
        raise ValueError(f"it ends after {len(content)} bytes")
    _, version, header_bytes, payload_bytes, checksum = _PREAMBLE.unpack_from(content)
    if version != VERSION:
        raise ValueError(f"it has version {version}, this release reads {VERSION}")
    if header_bytes < _PREAMBLE.size or header_bytes % _ALIGNMENT:
        raise ValueError(f"its header cannot have {header_bytes} bytes")
    if len(content) != header_bytes + payload_bytes:
        raise ValueError(f"it has {len(content)} bytes and states {header_bytes} + {payload_bytes}")
    if zlib.crc32(memoryview(content)[_PREAMBLE.size :]) != checksum:
        raise ValueError("its checksum is wrong")
    try:
        told = json.loads(content[_PREAMBLE.size : header_bytes].decode())
    except UnicodeDecodeError:
        raise ValueError("its header is not UTF-8") from None
    if not isinstance(told, dict):
        raise ValueError("its header is no object")
    description = NetworkDescription.from_json(told.get("description"))
    expected = model_bytes(description.layers, description.bit_widths, description.quantizers)
    if payload_bytes != expected:
        raise ValueError(f"it states a payload of {payload_bytes} bytes, its network has {expected}")
    table = list(_table(description))
    if told.get("tensors") != [tensor.to_json() for tensor in table]:
        raise ValueError("its tensors are not those of its network")
    return PackedFile(_network(description, table, memoryview(content)[header_bytes:]), header_bytes, payload_bytes)


def pack_codes(codes: npt.NDArray[np.int16], levels: Levels, bits: int) -> bytes:
    """Codes of any shape, in C order, as ``bits`` bits each: code - lowest, least significant bit first.

    >>> pack_codes(np.array([-1, 0, 1, 1, -1], np.int16), Levels(-1, 1), 2).hex()
    'a400'
    """
    unsigned = (codes.ravel() - levels.lowest).astype(np.uint16)
    stream = np.empty((unsigned.size, bits), np.uint8)
    for bit in range(bits):
        stream[:, bit] = (unsigned >> bit) & 1
    return np.packbits(stream, bitorder="little").tobytes()


def unpack_codes(
    content: bytes | memoryview, shape: tuple[int, ...], levels: Levels, bits: int
) -> npt.NDArray[np.int16]:
    """What ``pack_codes`` packed.

    Raises:
        ValueError: for bits that stand for no code, also after the last one.

    >>> unpack_codes(bytes.fromhex("a400"), (5,), Levels(-1, 1), 2).tolist()
    [-1, 0, 1, 1, -1]
    """
    count = int(np.prod(shape, dtype=np.int64))
    stream = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    if len(stream) // 8 != -(-count * bits // 8):
        raise ValueError(f"{len(stream) // 8} bytes are not {count} codes of {bits} bits")
    if stream[count * bits :].any():
        raise ValueError("there are bits after the last code")
    codes = np.full(count, levels.lowest, np.int16)
    for bit in range(bits):
        codes += stream[bit : count * bits : bits].astype(np.int16) << bit
    if count and codes.max() > levels.highest:
        raise ValueError(f"code {codes.max()} is beyond {levels.highest}")
    return codes.reshape(shape)


def _table(description: NetworkDescription) -> Iterator[_Tensor]:
    """The payload's tensors: all float32 ones in the order of the layers, then all codes in that order."""
    at = 0
    for tensor in [*_floats(description), *_codes(description)]:
        yield _Tensor(tensor.layer, tensor.holds, tensor.shape, at, tensor.bits, tensor.levels)
        at += tensor.size_bytes


def _floats(description: NetworkDescription) -> Iterator[_Tensor]:
    settings = description.quantizers
    weights = weight_bits(description.layers, description.bit_widths, settings)
    for layer in description.layers:
        channels = (layer.shape[0],)
        match layer:
            case Conv() | Linear():
                if weights[layer.name] is None:
                    yield _Tensor(layer.name, "weights", layer.weight_shape, 0)
                else:
                    yield _Tensor(layer.name, "weight step", (), 0)
                if layer.bias:
                    yield _Tensor(layer.name, "bias", channels, 0)
            case BatchNorm():
                yield _Tensor(layer.name, "scale", channels, 0)
                yield _Tensor(layer.name, "shift", channels, 0)
            case Activation():
                bits = activation_bits(layer, description.bit_widths, settings)
                if bits is not None:
                    levels = activation_levels(bits, signed=layer.signed)
                    yield _Tensor(layer.name, "activation step", (), 0, levels=levels)
            case _:
                pass


def _codes(description: NetworkDescription) -> Iterator[_Tensor]:
    settings = description.quantizers
    weights = weight_bits(description.layers, description.bit_widths, settings)
    for layer in description.layers:
        if isinstance(layer, Conv | Linear) and (bits := weights[layer.name]) is not None:
            levels = weight_levels(settings.weight_levels, bits)
            yield _Tensor(layer.name, "weight codes", layer.weight_shape, 0, bits, levels)


def _float_values(network: DeployedNetwork, tensor: _Tensor) -> FloatArray:
    match tensor.holds:
        case "weights" | "weight step":
            weights = network.weights[tensor.layer]
            return weights.values if isinstance(weights, FloatWeights) else np.array(weights.step)
        case "bias":
            return network.biases[tensor.layer]
        case "scale":
            return network.batch_norms[tensor.layer].scale
        case "shift":
            return network.batch_norms[tensor.layer].shift
        case "activation step":
            return np.array(network.activations[tensor.layer].step)
        case "weight codes":
            raise AssertionError("codes are no float32")


def _network(description: NetworkDescription, table: list[_Tensor], payload: memoryview) -> DeployedNetwork:
    floats: dict[tuple[str, str], FloatArray] = {}
    network = DeployedNetwork(description, {}, {}, {}, {})
    for tensor in table:
        content = payload[tensor.at : tensor.at + tensor.size_bytes]
        if tensor.holds == "weight codes":
            assert tensor.levels is not None
            try:
                codes = unpack_codes(content, tensor.shape, tensor.levels, tensor.bits)
            except ValueError as error:
                raise ValueError(f"layer {tensor.layer}: {error}") from None
            step = np.float32(floats[tensor.layer, "weight step"])
            network.weights[tensor.layer] = QuantizedWeights(codes, tensor.bits, tensor.levels, step)
            continue
        values = np.frombuffer(content, "<f4").astype(np.float32).reshape(tensor.shape)
        if not np.isfinite(values).all():
            raise ValueError(f"layer {tensor.layer}: its {tensor.holds} is not finite")
        if tensor.holds.endswith("step") and not values > 0:
            raise ValueError(f"layer {tensor.layer}: its {tensor.holds} is not positive")
        floats[tensor.layer, tensor.holds] = values
        match tensor.holds:
            case "weights":
                network.weights[tensor.layer] = FloatWeights(values)
            case "bias":
                network.biases[tensor.layer] = values
            case "shift":
                network.batch_norms[tensor.layer] = ScaleAndShift(floats[tensor.layer, "scale"], values)
            case "activation step":
                assert tensor.levels is not None
                network.activations[tensor.layer] = ActivationGrid(tensor.levels, np.float32(values))
            case _:
                pass
    return network
