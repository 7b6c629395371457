"""The packed format: its bytes, its reader, and what the reader refuses."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import Architecture, BitWidths, InvalidInput, Network, describe, get_task
from qcore.cost import model_bytes
from qcore.export import DeployedNetwork, NetworkDescription, deploy, pack, read_packed, unpack
from qcore.export.deployed import FloatWeights, QuantizedWeights
from qcore.export.packed import pack_codes, unpack_codes
from qcore.levels import Levels, weight_levels

DOCUMENT = Path(__file__).parents[2] / "docs/packed-format.md"
LEVEL_SETS = ["symmetric", "twos_complement", "mid_rise"]


def deployed(name: str = "preact-L8-D3", bits: str = "W2A2", **options: Any) -> DeployedNetwork:
    trained = random_network(name, bits, **options)
    return deploy(trained.description, trained.state)


def signed(header: bytes, payload: bytes) -> bytes:
    """A file of that header and payload whose sizes and checksum are right."""
    header = header.ljust(-(-(24 + len(header)) // 16) * 16 - 24)
    sizes = struct.pack("<3I", 1, 24 + len(header), len(payload))
    return b"QRPACKED" + sizes + struct.pack("<I", zlib.crc32(header + payload)) + header + payload


def parts(content: bytes) -> tuple[Any, bytes]:
    header_bytes = struct.unpack_from("<I", content, 12)[0]
    return json.loads(content[24:header_bytes]), content[header_bytes:]


@st.composite
def codes_of_levels(draw: st.DrawFn) -> tuple[list[int], Levels, int]:
    bits = draw(st.integers(2, 8))
    levels = weight_levels(draw(st.sampled_from(LEVEL_SETS)), bits)
    return draw(st.lists(st.integers(levels.lowest, levels.highest), max_size=70)), levels, bits


@given(codes_of_levels())
@settings(deadline=None)
def test_codes_lie_bit_after_bit_and_come_back(drawn: tuple[list[int], Levels, int]) -> None:
    values, levels, bits = drawn
    packed = pack_codes(np.array(values, np.int16), levels, bits)
    as_one_number = sum((code - levels.lowest) << (bits * index) for index, code in enumerate(values))
    assert packed == as_one_number.to_bytes(-(-len(values) * bits // 8), "little")
    assert unpack_codes(packed, (len(values),), levels, bits).tolist() == values


def test_bits_that_are_no_code_are_refused() -> None:
    with pytest.raises(ValueError, match="code 2 is beyond 1"):
        unpack_codes(bytes([0b11]), (1,), Levels(-1, 1), 2)
    with pytest.raises(ValueError, match="after the last code"):
        unpack_codes(bytes([0b0100]), (1,), Levels(-1, 1), 2)
    with pytest.raises(ValueError, match="2 bytes are not 3 codes of 2 bits"):
        unpack_codes(bytes(2), (3,), Levels(-1, 1), 2)


@pytest.mark.parametrize("levels", LEVEL_SETS)
@pytest.mark.parametrize("name", ["basic-L8-D3", "depthwise-L11-D3"])
@pytest.mark.parametrize("bits", ["W2A2", "W3A4", "W8A8", "W5AF", "WFA2", "float"])
def test_a_file_holds_the_network_and_has_its_model_bytes(name: str, bits: str, levels: str) -> None:
    network = deployed(name, bits, weight_levels=levels, first_last_weight_bits="same")
    description = network.description
    content = pack(network)
    found = unpack(content)
    assert found.payload_bytes == model_bytes(description.layers, description.bit_widths, description.quantizers)
    assert len(content) == found.header_bytes + found.payload_bytes
    assert found.network.description == description
    assert found.network.activations == network.activations
    for layer, weights in network.weights.items():
        again = found.network.weights[layer]
        if isinstance(weights, QuantizedWeights):
            assert isinstance(again, QuantizedWeights)
            assert np.array_equal(again.codes, weights.codes)
            assert (again.step, again.levels, again.bits) == (weights.step, weights.levels, weights.bits)
        else:
            assert isinstance(weights, FloatWeights)
            assert np.array_equal(again.values, weights.values)
    assert all(np.array_equal(found.network.biases[layer], bias) for layer, bias in network.biases.items())
    for layer, batch_norm in network.batch_norms.items():
        assert np.array_equal(found.network.batch_norms[layer].scale, batch_norm.scale)
        assert np.array_equal(found.network.batch_norms[layer].shift, batch_norm.shift)
    assert pack(found.network) == content


@pytest.mark.parametrize("name", ["basic-L14-D40", "preact-L20-D31", "depthwise-L20-D16"])
def test_payloads_of_large_networks_have_the_described_bytes(name: str) -> None:
    description = NetworkDescription.of(Architecture.parse(name), get_task("cifar10"), BitWidths.parse("W2A2"))
    state = Network(description.layers, description.bit_widths).state_dict()
    expected = describe(Architecture.parse(name), get_task("cifar10")).model_bytes["W2A2"]
    assert unpack(pack(deploy(description, state))).payload_bytes == expected


def test_the_documents_own_reader_reads_the_same_numbers(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    scope: dict[str, Any] = {}
    exec(program, scope)
    for levels in LEVEL_SETS:
        network = deployed("preact-L8-D3", "W3A2", weight_levels=levels)
        path = tmp_path / "network.packed"
        path.write_bytes(pack(network))
        header, tensors = scope["read"](path)
        assert header["description"]["architecture"] == "preact-L8-D3"
        for layer, weights in network.weights.items():
            assert isinstance(weights, QuantizedWeights)
            values = tensors[layer, "weight codes"] * tensors[layer, "weight step"]
            np.testing.assert_allclose(values, weights.values, rtol=1e-6)
        for layer, grid in network.activations.items():
            assert tensors[layer, "activation step"] == grid.step
        for layer, batch_norm in network.batch_norms.items():
            assert np.array_equal(tensors[layer, "shift"], batch_norm.shift)


SMALL = pack(deployed("basic-L8-D3"))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_file_is_refused(data: st.DataObject) -> None:
    how = data.draw(st.sampled_from(["cut", "longer", "changed"]))
    if how == "cut":
        damaged = SMALL[: data.draw(st.integers(0, len(SMALL) - 1))]
    elif how == "longer":
        damaged = SMALL + data.draw(st.binary(min_size=1, max_size=9))
    else:
        at, change = data.draw(st.integers(0, len(SMALL) - 1)), data.draw(st.integers(1, 255))
        damaged = SMALL[:at] + bytes([SMALL[at] ^ change]) + SMALL[at + 1 :]
    with pytest.raises(InvalidInput, match=r"some file.*quantrank export"):
        unpack(damaged, "some file")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *places(value[key])]
    return found


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_header_that_says_something_else_is_refused_or_read_whatever_it_says(data: st.DataObject) -> None:
    header, payload = parts(SMALL)
    container, key = data.draw(st.sampled_from(places(header)))
    container[key] = data.draw(json_values)
    try:
        network = unpack(signed(json.dumps(header).encode(), payload)).network
    except InvalidInput:
        return
    assert json.loads(json.dumps(network.description.to_json()))["layers"] == header["description"]["layers"]


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_no_header_however_formed_does_more_than_be_refused(data: st.DataObject) -> None:
    header = data.draw(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()))
    with pytest.raises(InvalidInput):
        unpack(signed(header, data.draw(st.binary(max_size=40))))


def test_a_header_that_nests_without_end_is_refused() -> None:
    with pytest.raises(InvalidInput):
        unpack(signed(b"[" * 100_000, b""))


@pytest.mark.parametrize(
    ("holds", "value", "told"),
    [
        ("weight step", np.float32(0), "stem_conv: its weight step is not positive"),
        ("weight step", np.float32(np.nan), "stem_conv: its weight step is not finite"),
        ("activation step", np.float32(-1), "stem_relu: its activation step is not positive"),
        ("scale", np.float32(np.inf), "stem_bn: its scale is not finite"),
    ],
)
def test_numbers_that_cannot_be_are_refused(holds: str, value: np.float32, told: str) -> None:
    header, payload = parts(SMALL)
    tensor = next(each for each in header["tensors"] if each["holds"] == holds)
    at = tensor["at"]
    with pytest.raises(InvalidInput, match=told):
        unpack(signed(json.dumps(header).encode(), payload[:at] + value.tobytes() + payload[at + 4 :]))


def test_a_ternary_weight_of_code_two_is_refused() -> None:
    header, payload = parts(SMALL)
    tensor = next(each for each in header["tensors"] if each["holds"] == "weight codes" and each["bits"] == 2)
    damaged = payload[: tensor["at"]] + b"\xff" + payload[tensor["at"] + 1 :]
    with pytest.raises(InvalidInput, match=f"layer {tensor['layer']}: code 2 is beyond 1"):
        unpack(signed(json.dumps(header).encode(), damaged))


def test_a_file_of_another_version_says_which(tmp_path: Path) -> None:
    path = tmp_path / "newer.packed"
    path.write_bytes(SMALL[:8] + struct.pack("<I", 2) + SMALL[12:])
    with pytest.raises(InvalidInput, match=r"newer\.packed.*version 2"):
        read_packed(path)
    with pytest.raises(InvalidInput, match=r"absent\.packed.*cannot be read"):
        read_packed(tmp_path / "absent.packed")
