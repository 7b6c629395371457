"""What Schemathesis cannot know from the API's description: names and ids that there are, for half of its cases."""

from __future__ import annotations

from typing import Any

import schemathesis

TASKS = ["digits", "rings", "fashion-mnist-14"]
LISTS = {"bit_widths": ["W2A2"], "depths": [8], "architectures": ["basic-L8-D3", "basic-L8-D4"], "blocks": ["basic"]}
BUDGETS = {"parameter_budget": 20_000, "model_bytes_budget": 16_384, "bit_operations_budget": 7_000_000}
IDS = 8


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """A valid request stays valid, and an invalid one invalid: only values of the right type are replaced."""
    if not isinstance(body, dict) or len(repr(body)) % 2:
        return body
    changed = dict(body)
    if isinstance(body.get("task"), str) and len(body["task"]) <= 64:
        changed["task"] = TASKS[len(body["task"]) % len(TASKS)]
    for field, values in LISTS.items():
        given = body.get(field)
        if isinstance(given, list) and 0 < len(given) <= 16 and all(type(each) is type(values[0]) for each in given):
            is_short = all(not isinstance(each, str) or len(each) <= 64 for each in given)
            changed[field] = values if is_short else given
    for field, most in BUDGETS.items():
        given = body.get(field)
        if type(given) is int and 1 <= given <= most:
            changed[field] = most
    return changed


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    return {
        name: value % IDS + 1 if type(value) is int and value >= 1 and value % 2 else value
        for name, value in (path_parameters or {}).items()
    }
