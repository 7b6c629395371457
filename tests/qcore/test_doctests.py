"""The examples in qcore's docstrings are true."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "bit_widths",
        "errors",
        "architecture",
        "recipe",
        "learning_rate",
        "levels",
        "quantizers",
        "metrics",
        "export.packed",
    ],
)
def test_a_modules_examples_print_what_they_say(module: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(f"qcore.{module}"))
    assert attempted > 0
    assert failed == 0
