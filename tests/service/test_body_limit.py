"""Requests that send too much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live import serving

from searcher.database import Database
from service.app import create_app
from service.body_limit import MOST_BODY_BYTES
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000}
JSON = {"content-type": "application/json"}


@pytest.fixture
def url(sqlite_database: Database, tmp_path: Path) -> Iterator[str]:
    with serving(create_app(Settings(home=tmp_path, database_url=None), sqlite_database)) as url:
        yield url


def of_size(size: int) -> bytes:
    """A request that would be taken, blown up by spaces."""
    return json.dumps(BODY).encode().ljust(size)


def in_chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


@pytest.mark.parametrize("path", ["/search", "/search/estimate", "/searches/1/extend"])
def test_a_request_that_says_it_is_too_large_is_refused_with_its_size(url: str, path: str) -> None:
    answer = httpx.post(url + path, content=of_size(MOST_BODY_BYTES + 1), headers=JSON)

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert (error["field"], error["value"]) == ("body", f"{MOST_BODY_BYTES + 1} bytes")
    assert f"at most {MOST_BODY_BYTES} bytes" in error["remedy"]


def test_a_request_that_does_not_say_is_refused_when_it_has_sent_too_much(url: str) -> None:
    answer = httpx.post(f"{url}/search", content=in_chunks(of_size(MOST_BODY_BYTES + 1)), headers=JSON)

    assert answer.status_code == 413
    assert [each["field"] for each in answer.json()["errors"]] == ["body"]
    assert httpx.get(f"{url}/searches").json()["searches"] == []


def test_what_is_just_small_enough_is_taken(url: str) -> None:
    whole = httpx.post(f"{url}/search", content=of_size(MOST_BODY_BYTES), headers=JSON)
    pieces = httpx.post(f"{url}/search", content=in_chunks(of_size(MOST_BODY_BYTES)), headers=JSON)

    assert (whole.status_code, pieces.status_code) == (201, 201)
