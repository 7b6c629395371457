"""Methods that a path does not have."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from live import serving

from searcher.database import Database
from service.app import create_app
from service.routes import plotly
from service.settings import Settings


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/search", "GET", {"POST"}),
        ("/searches", "POST", {"GET", "HEAD"}),
        ("/searches/1", "PATCH", {"GET", "HEAD", "DELETE"}),
        ("/searches/1", "OPTIONS", {"GET", "HEAD", "DELETE"}),
        ("/metrics", "DELETE", {"GET", "HEAD"}),
    ],
)
def test_an_answer_names_all_methods_of_the_path(
    embedded_client: TestClient, path: str, method: str, allowed: set[str]
) -> None:
    answer = embedded_client.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert all(each in answer.json()["detail"] for each in allowed)


def test_head_is_answered_as_get_is_without_a_body(sqlite_database: Database, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, database_url=None), sqlite_database)
    # A real server, and one connection: what came with an answer that has no body would be taken for the next one.
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        client.post("/search", json={"task": "digits", "parameter_budget": 20_000}).raise_for_status()
        for path in PATHS:
            got, head = client.get(path), client.head(path)

            assert head.content == b"", path
            assert head.status_code == got.status_code, path
            assert told(head) == told(got), path
        assert client.head("/metrics").status_code == 200
        assert client.head("/searches/1/events").headers["content-type"].startswith("text/event-stream")
        assert client.head("/search").headers["allow"] == "POST"
        assert client.get("/healthz").json()["service"] == "quantrank"


PATHS = (
    "/healthz",
    "/readyz",
    "/searches",
    "/searches/1",
    "/searches/1/candidates",
    "/searches/1/leaderboard?format=csv",
    "/searches/7",
    "/searches/x",
    "/leaderboard?task=digits",
    "/tasks",
    "/workers",
    "/openapi.json",
    "/docs",
    "/sign-in",
    "/",
    "/ui/searches/1",
    "/ui/nowhere",
    "/static/style.css",
    "/static/nowhere",
    plotly.PATH,
)


def told(answer: httpx.Response) -> dict[str, str]:
    own = ("date", "x-request-id")
    return {name: value for name, value in answer.headers.items() if name not in own}


def test_a_file_can_only_be_read(embedded_client: TestClient) -> None:
    answer = embedded_client.post("/static/style.css")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
