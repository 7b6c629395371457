"""Budgets: which values are none, and how people read them."""

from __future__ import annotations

import doctest

import pytest

import searcher.budgets
from qcore import BitWidths, InvalidInput
from qcore.recipe import QuantizerSettings
from searcher.budgets import Budgets, budgets_in_words


def _budgets(parameters: int | None, model_bytes: int | None, bit_operations: int | None) -> Budgets:
    return Budgets(parameters, model_bytes, bit_operations, BitWidths(2, 2), QuantizerSettings())


def test_without_any_budget_all_three_are_named() -> None:
    with pytest.raises(InvalidInput) as refused:
        _budgets(None, None, None)
    told = str(refused.value)
    assert all(field in told for field in ("parameter_budget", "model_bytes_budget", "bit_operations_budget"))
    assert "give at least one" in refused.value.remedy


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ((0, None, None), "parameter_budget"),
        ((10**8 + 1, 5, 5), "parameter_budget"),
        ((5, -1, None), "model_bytes_budget"),
        ((None, 4 * 10**8 + 1, None), "model_bytes_budget"),
        ((None, None, 0), "bit_operations_budget"),
        ((None, None, 10**15 + 1), "bit_operations_budget"),
    ],
)
def test_a_budget_out_of_range_is_refused_by_name(given: tuple[int | None, ...], field: str) -> None:
    with pytest.raises(InvalidInput, match="out of range") as refused:
        _budgets(*given)
    assert refused.value.field == field


def test_the_bounds_themselves_are_taken() -> None:
    assert _budgets(1, 1, 1).model_bytes == 1
    assert _budgets(10**8, 4 * 10**8, 10**15).bit_operations == 10**15


def test_the_examples_of_budgets_in_words_hold() -> None:
    assert doctest.testmod(searcher.budgets).failed == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((1_100_000, None, None), "1,100,000 parameters"),
        ((None, 1023, None), "1,023 bytes at W2A2"),
        ((None, 1024, None), "1 KiB at W2A2"),
        ((None, 2_000_000, None), "1,953.1 KiB at W2A2"),
        ((5, 65_536, None), "5 parameters and 64 KiB at W2A2"),
        ((None, None, 3_250_000_000), "3,250 million bit operations at W2A2"),
        ((5, None, 999_999), "5 parameters and 999,999 bit operations at W2A2"),
    ],
)
def test_budgets_are_read_with_their_units(given: tuple[int | None, int | None, int | None], words: str) -> None:
    assert budgets_in_words(*given, "W2A2") == words
