"""Messages about a wrong value, from errors of pydantic and from mistyped names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WANTED = {
    "bool": "true or false",
    "bytes": "a text",
    "dataclass": "a JSON object",
    "dict": "a JSON object",
    "finite_number": "a finite number",
    "float": "a number",
    "frozen_set": "a list",
    "int": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "iterable": "a list",
    "list": "a list",
    "mapping": "a JSON object",
    "model": "a JSON object",
    "none_required": "null",
    "path": "a path",
    "recursion_loop": "fewer levels",
    "set": "a list",
    "string": "a text",
    "tuple": "a list",
    "url": "a URL",
    "uuid": "a UUID",
}
"""The phrase for what a field takes, by the type of the error or its first word."""
_LIMITS = {
    "greater_than": ("more than {gt}", "is too small"),
    "greater_than_equal": ("at least {ge}", "is too small"),
    "less_than": ("less than {lt}", "is too large"),
    "less_than_equal": ("at most {le}", "is too large"),
    "multiple_of": ("a multiple of {multiple_of}", "is not acceptable"),
    "string_too_long": ("at most {max_length} characters", "is too long"),
    "string_too_short": ("at least {min_length} characters", "is too short"),
    "string_pattern_mismatch": ("a text of the form {pattern}", "is not acceptable"),
    "too_long": ("at most {max_length} entries", "has too many entries"),
    "too_short": ("at least {min_length} entries", "has too few entries"),
}


def wanted(error: Mapping[str, Any]) -> str:
    """What a field takes, to follow "give", of one of pydantic's errors about it."""
    kind, about = error["type"], error.get("ctx", {})
    if kind in _LIMITS:
        told = _LIMITS[kind][0].format(**about)
        return told.removesuffix("s") if told.endswith(" 1 characters") else told.replace(" 1 entries", " 1 entry")
    if kind in ("literal_error", "enum"):
        return str(about["expected"])
    if kind in ("value_error", "assertion_error"):
        return f"another: {about.get('error', error['msg'])}"
    found = _WANTED.get(kind) or _WANTED.get(kind.split("_")[0])
    return found or str(error["msg"]).removeprefix("Input should be ").replace("a valid ", "a ")


def fault(error: Mapping[str, Any]) -> str:
    """What is wrong with a value, to follow it, of one of pydantic's errors about it."""
    kind = error["type"]
    return _LIMITS[kind][1] if kind in _LIMITS else "is not acceptable"


def did_you_mean(name: object, known: Iterable[str]) -> str | None:
    """The question after the known name that one resembles; None if it resembles none.

    >>> did_you_mean("bitwidths", ["task", "bit_widths"]), did_you_mean("tsak", ["task"]), did_you_mean("x", ["task"])
    ('did you mean bit_widths?', 'did you mean task?', None)
    """
    by_spelling = {_bare(each): each for each in known}
    found = get_close_matches(_bare(str(name)[:100]), by_spelling, n=1)
    return f"did you mean {by_spelling[found[0]]}?" if found else None


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")
