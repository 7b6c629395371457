"""The API's description (/openapi.json), where it says more than FastAPI reads off the routes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).with_name("examples.json")
"""Answers that a server gave, by method and path: recorded by ``python docs/examples.py``."""

_PROBLEM = "application/problem+json"
_JSON = "application/json"
_KEY = "An API key, as `quantrank keys create` prints it. What comes from the server's own host needs none."


def completed(schema: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's description, with keys, problems under their media type, request ids, and examples of answers."""
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": _KEY}}
    schema["security"] = [{"key": []}, {}]
    examples = json.loads(EXAMPLES.read_text())
    for method, path, operation in operations(schema):
        for status, response in operation["responses"].items():
            content = response.setdefault("content", {})
            if status >= "400":
                of_problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
                response["content"] = {_PROBLEM: of_problem}
            elif _JSON in content and (example := examples.get(f"{method.upper()} {path}")) is not None:
                content[_JSON]["example"] = example
            if not content and status < "400":
                del response["content"]
            response.setdefault("headers", {})["X-Request-ID"] = {
                "description": "Of the request: what its client or a proxy sent, or a new one. Log lines say it.",
                "schema": {"type": "string"},
            }
    return schema


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each route."""
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation
