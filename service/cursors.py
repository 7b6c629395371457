"""Cursors: where a page of a leaderboard begins, opaque to clients."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import astuple

from qcore import InvalidInput
from searcher.board import Position

MOST_CURSOR_CHARACTERS = 500


def write_cursor(position: Position) -> str:
    text = json.dumps(astuple(position), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(text: str) -> Position:
    """The place that ``write_cursor`` wrote down.

    Raises:
        InvalidInput: for what no server wrote.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        sort, value, parameters, architecture = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise _refusal(text) from None
    is_number = value is None or (type(value) in (int, float) and abs(value) < 1e18 and math.isfinite(value))
    if not (type(sort) is type(architecture) is str and type(parameters) is int and is_number):
        raise _refusal(text)
    return Position(sort, value, parameters, architecture)


def _refusal(text: str) -> InvalidInput:
    return InvalidInput(
        "cursor", text[:100], "is none that a page gave", "take it from a page's `next`, or leave it out"
    )
