"""What users are told: plain words, the field they meant, and no internals."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient
from playing import play_worker
from pydantic_core import PydanticKnownError
from pydantic_core.core_schema import ErrorType

from qcore.wording import wanted
from searcher.database import Database
from service.cli import main
from service.routes.pages.errors import for_people

BODY = {"task": "digits", "parameter_budget": 20_000}


def detail(client: TestClient, body: Any) -> str:
    answer = client.post("/search", json=body)
    assert answer.status_code == 422
    told: str = answer.json()["detail"]
    return told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bitwidths": ["W2A2"]}, "bitwidths: \"['W2A2']\" is not a known field; did you mean bit_widths?"),
        ({"Depth": [8]}, "Depth: '[8]' is not a known field; did you mean depths?"),
        ({"budget-parameter": 1}, "is not a known field; "),
        ({"colour": 1}, "colour: 1 is not a known field; leave it out"),
        ({"recipe": {"float_parts": {}}}, "recipe.float_parts: '{}' is not a setting; did you mean float_part?"),
        (
            {"recipe": {"float_part": {"schedule": {"epoch": 5}}}},
            "recipe.float_part.schedule.epoch: 5 is not a setting; did you mean epochs?",
        ),
        ({"parameter_budget": "many"}, "parameter_budget: 'many' is not acceptable; give a whole number"),
        ({"parameter_budget": 1.5}, "parameter_budget: 1.5 is not acceptable; give a whole number"),
        ({"parameter_budget": 0}, "parameter_budget: 0 is too small; give at least 1"),
        ({"rungs": ["x"]}, "rungs.0: 'x' is not acceptable; give a number"),
        ({"task": "d" * 70}, "is too long; give at most 64 characters"),
        ({"task": None}, "task is not acceptable; give a text"),
        ({"depths": 8}, "depths: 8 is not acceptable; give a list"),
        ({"engine": "rya"}, "engine: 'rya' is not acceptable; give 'optuna' or 'ray'; did you mean ray?"),
        ({"recipe": 5}, "recipe: 5 is not acceptable; give a text or a JSON object"),
        ({"seeds": [0] * 33}, "has too many entries; give at most 32 entries"),
    ],
)
def test_a_request_is_refused_in_plain_words(embedded_client: TestClient, changes: dict[str, Any], told: str) -> None:
    assert told in detail(embedded_client, BODY | changes)


def test_a_field_that_is_not_there_has_no_value(embedded_client: TestClient) -> None:
    assert detail(embedded_client, {}) == "task is missing; add it"
    assert "None" not in detail(embedded_client, {"task": "digits"})


@pytest.mark.parametrize("content", [b"task=digits", b"{", b"\xff\xfe", b"", b"[1]", b"null"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_a_body_that_is_no_object_is_shown_as_it_was_sent(
    embedded_client: TestClient, content: bytes, kind: str
) -> None:
    answer = embedded_client.post("/search", content=content, headers={"content-type": kind})
    assert answer.status_code == 422
    assert "b'" not in answer.text
    assert "JSON" in answer.json()["detail"] or "is missing; add it" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (
            "/leaderboard?task=digits&bitwidths=W2A2",
            "bitwidths: 'W2A2' is not a known parameter; did you mean bit_widths?",
        ),
        ("/searches?state=running", "state: 'running' is not a known parameter; did you mean status?"),
        ("/tasks?x=1", "x: '1' is not a known parameter; leave it out"),
        ("/searches?limit=x", "limit: 'x' is not acceptable; give a whole number"),
        ("/searches?status=runing", "did you mean running?"),
        ("/searches/one", "search_id: 'one' is not acceptable; give a whole number"),
    ],
)
def test_parameters_of_an_address_are_refused_in_plain_words(embedded_client: TestClient, path: str, told: str) -> None:
    answer = embedded_client.get(path)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/", "/?utm_source=x"])
def test_what_is_asked_by_machines_and_shown_in_browsers_takes_any_parameter(
    embedded_client: TestClient, path: str
) -> None:
    assert embedded_client.get(path, params={"cache": "1"}).status_code == 200


OURS = (
    "bool",
    "dict",
    "enum",
    "finite",
    "float",
    "greater",
    "int",
    "less",
    "list",
    "literal",
    "model",
    "multiple",
    "none",
)
ERRORS = [
    each
    for each in get_args(ErrorType)
    if each.startswith((*OURS, "string", "too", "tuple")) and "argument" not in each
]
ABOUT = {"gt": 1, "ge": 1, "lt": 1, "le": 1, "multiple_of": 2, "min_length": 1, "max_length": 2, "actual_length": 3}
ABOUT |= {"pattern": "x+", "expected": "'a' or 'b'", "field_type": "List", "class_name": "Name"}


@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_of_pydantic_is_told_in_its_own_words(kind: Any) -> None:
    error = PydanticKnownError(kind, ABOUT)
    found = wanted({"type": kind, "msg": error.message(), "ctx": ABOUT})
    assert not re.search(r"Input should|unable to parse|\bvalid\b|[{}]|Extra", found), found


PAGES = [
    "/ui/searches/99",
    "/ui/evaluations/99",
    "/searches/99",
    "/leaderboard?task=digits&search=9",
    "/evaluations/9/model",
]


@pytest.mark.parametrize("path", [*PAGES, "/searches/x", "/ui/leaderboard?task=nothing", "/nowhere"])
def test_pages_of_errors_speak_of_pages(embedded_client: TestClient, path: str) -> None:
    page = embedded_client.get(path, headers={"accept": "text/html"})
    assert page.status_code in (404, 422)
    assert "text/html" in page.headers["content-type"]
    assert not re.search(r"\b(GET|POST|DELETE) /", page.text)


def test_other_pages_name_no_requests_either(embedded_client: TestClient, sqlite_database: Database) -> None:
    search = embedded_client.post("/search", json=BODY | {"architectures": ["basic-L8-D3"]}).json()
    (number,) = play_worker(sqlite_database, search["id"])
    for path in ("/", "/ui/searches/1", f"/ui/evaluations/{number}", "/ui/leaderboard?task=digits", "/ui/workers"):
        page = embedded_client.get(path, headers={"accept": "text/html"})
        assert page.status_code == 200, path
        assert not re.search(r"\b(GET|POST|DELETE) /", page.text), path


def test_any_request_that_a_problem_names_becomes_an_address() -> None:
    assert for_people("x; DELETE /somewhere/else first") == "x; the address /somewhere/else first"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["search", "--task", "digits", "--bitwidths", "W2A2"],
            "--bitwidths W2A2 are not known; did you mean --bit-widths?",
        ),
        (["serve", "--worker=2", "--prot", "1"], "did you mean --port?"),
        (
            ["search", "--task", "digits", "--parameter-budget", "many"],
            "--parameter-budget: 'many' is not a whole number",
        ),
        (["gc", "--older-than", "long"], "--older-than: 'long' is not a number"),
    ],
)
def test_commands_are_refused_in_plain_words(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--help"], "Run the API, "),
        (["keys", "--help"], "API keys, "),
        (["packing", "--help"], "or its GPU, "),
        (["describe", "--help"], "Parameters, MACs, "),
        (["ray", "--help"], "--engine ray on a Ray cluster"),
    ],
)
def test_help_keeps_capitals(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert told in " ".join(capsys.readouterr().out.split())


def test_an_estimate_is_told_in_seconds_where_it_is_short(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QUANTRANK_PORT", "9")
    short = '{"schedule": {"epochs": 1, "warmup_epochs": 0}}'
    recipe = f'{{"float_part": {short}, "retraining": {short}}}'
    arguments = [
        "--task",
        "digits",
        "--parameter-budget",
        "20000",
        "--architectures",
        "basic-L8-D3",
        "--recipe",
        recipe,
    ]
    assert main(["search", *arguments, "--estimate"]) == 0
    told = capsys.readouterr().out
    assert "hours" not in told
    assert re.search(r"about \d+ s \(", told) or "about < 1 s" in told
