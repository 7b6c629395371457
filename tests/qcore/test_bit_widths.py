"""Names of bit widths: which exist, what they mean, and how the others are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import FLOAT, BitWidths, InvalidInput

bits = st.none() | st.integers(2, 8)


def parts(text: str) -> tuple[int | None, int | None]:
    parsed = BitWidths.parse(text)
    return parsed.weight, parsed.activation


@given(bits, bits)
@settings(deadline=None, max_examples=100)
def test_names_parse_back_to_the_bit_widths_they_name(weight: int | None, activation: int | None) -> None:
    bit_widths = BitWidths(weight, activation)
    assert BitWidths.parse(str(bit_widths)) == bit_widths


def test_the_first_number_is_of_the_weights_and_the_second_of_the_activations() -> None:
    assert parts("W2A2") == (2, 2)
    assert parts("W4A8") == (4, 8)
    assert parts("W2AF") == (2, None)
    assert parts("WFA3") == (None, 3)


def test_float_is_the_network_without_any_bits() -> None:
    assert BitWidths.parse("float") is FLOAT
    assert str(FLOAT) == "float"
    assert FLOAT.is_float
    assert not BitWidths(2, None).is_float
    assert not BitWidths(None, 2).is_float


def test_exactly_two_to_eight_bits_or_float_exist_on_either_side() -> None:
    tokens = ["F", *map(str, range(100))]
    accepted = set()
    for weight in tokens:
        for activation in tokens:
            try:
                BitWidths.parse(f"W{weight}A{activation}")
            except InvalidInput:
                continue
            accepted.add((weight, activation))
    known = [*"2345678F"]
    assert accepted == {(weight, activation) for weight in known for activation in known} - {("F", "F")}


@pytest.mark.parametrize(
    "text",
    [
        "W0A2",
        "W02A2",
        "W2A08",
        "W00020A2",
        "W1A2",
        "W2A1",
        "W9A2",
        "W2A9",
        "W16A16",
        "WFAF",
        "W2",
        "A2",
        "WA",
        "w2a2",
        "W2a2",
        "A2W2",
        "",
        " ",
        "W2A2 ",
        " W2A2",
        "W2A2\n",
        "W2A2W2A2",
        "W-2A2",
        "W+2A2",
        "W2.0A2",
        "W2_A2",
        "Float",
        "F",
        "W٢A٢",  # Arabic-Indic digits, which int() reads
        "W２A２",  # full-width digits
        "W²A²",
        "W2A2\x00",
    ],
)
def test_anything_else_is_refused_with_the_name_and_the_remedy(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        BitWidths.parse(text)
    assert raised.value.field == "bit_widths"
    assert raised.value.value == text
    assert "2 to 8 bits or F" in raised.value.remedy
    assert str(raised.value) == f"bit_widths: {text!r} {raised.value.problem}; {raised.value.remedy}"


@pytest.mark.parametrize("text", ["W" + "2" * 100_000 + "A2", "W2A" + "9" * 100_000, "2" * 100_000])
def test_very_long_digit_strings_are_refused_like_any_other_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="use W<bits>A<bits>"):
        BitWidths.parse(text)


@pytest.mark.parametrize(("weight", "activation"), [(1, 2), (2, 1), (9, None), (None, 9), (0, 2), (-2, 2), (2, 32)])
def test_bit_widths_out_of_range_cannot_be_made_without_a_name_either(
    weight: int | None, activation: int | None
) -> None:
    with pytest.raises(InvalidInput, match="is out of range"):
        BitWidths(weight, activation)


@given(st.text(alphabet="WAF0123456789floatw٢ -\n", max_size=12) | st.text(max_size=12))
@settings(deadline=None, max_examples=300)
def test_parsing_either_refuses_a_text_as_invalid_input_or_finds_bit_widths_in_range(text: str) -> None:
    try:
        parsed = BitWidths.parse(text)
    except InvalidInput:
        return
    assert {parsed.weight, parsed.activation} <= {None, 2, 3, 4, 5, 6, 7, 8}
