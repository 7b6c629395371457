"""The API's description: nothing without words, and no answer without an example that is one."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from searcher.database import Database
from service.app import create_app
from service.description import operations
from service.settings import Settings

DESCRIBED: dict[str, Any] = create_app(Settings(), Database("sqlite:////nowhere.db")).openapi()
ROUTES = [(f"{method} {path}", operation) for method, path, operation in operations(DESCRIBED)]


@pytest.mark.parametrize(("route", "operation"), ROUTES, ids=[route for route, _ in ROUTES])
def test_a_route_says_what_it_does_and_what_its_parameters_are(route: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"].endswith(".")
    for parameter in operation.get("parameters", []):
        assert parameter.get("description") or parameter["schema"].get("description"), parameter["name"]


@pytest.mark.parametrize(("route", "operation"), ROUTES, ids=[route for route, _ in ROUTES])
def test_answers_have_examples_of_their_schema_and_problems_their_media_type(
    route: str, operation: dict[str, Any]
) -> None:
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        assert "X-Request-ID" in response["headers"]
        if status >= "400":
            assert list(content) == ["application/problem+json"]
        elif "application/json" in content:
            described = content["application/json"]
            schema = {**described["schema"], "components": DESCRIBED["components"]}
            jsonschema.Draft202012Validator(schema).validate(described["example"])
        elif status == "200":
            assert content, route


def test_a_body_has_an_example() -> None:
    for route, operation in ROUTES:
        if "requestBody" in operation:
            (content,) = operation["requestBody"]["content"].values()
            name = content["schema"]["$ref"].rsplit("/", 1)[1]
            assert DESCRIBED["components"]["schemas"][name]["examples"], route


def test_the_description_is_json_that_is_the_same_every_time() -> None:
    again = create_app(Settings(), Database("sqlite:////nowhere.db")).openapi()
    assert json.dumps(again) == json.dumps(DESCRIBED)
