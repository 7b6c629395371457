"""What every answer tells browsers, whether a route gave it, the guard or an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from callers import BODY, ELSEWHERE, LOCAL, bearer, make_key, server
from fastapi.testclient import TestClient

from searcher.database import Database
from service.access.headers import CONTENT_SECURITY_POLICY, HEADERS
from service.access.roles import Role
from service.routes import plotly

PAGES = Path(__file__).parents[2] / "service" / "pages"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/docs", 200),
        ("/searches", 200),
        ("/healthz", 200),
        ("/sign-in", 200),
        ("/openapi.json", 200),
        ("/static/style.css", 200),
        ("/static/swagger/swagger-ui.css", 200),
        ("/searches/1/events", 404),
        ("/nowhere", 404),
        ("/static/nowhere.js", 404),
        ("/searches?limit=0", 422),
    ],
)
def test_every_answer_has_the_headers(sqlite_database: Database, tmp_path: Path, path: str, status: int) -> None:
    answered = server(sqlite_database, tmp_path, LOCAL, on_loopback=True).get(path)
    refused = server(sqlite_database, tmp_path, ELSEWHERE).get(path)

    assert answered.status_code == status
    for each in (answered, refused):
        assert {name: each.headers.get(name) for name in HEADERS} == HEADERS
        is_shared = path.startswith("/static/")
        assert ("private" in each.headers.get("cache-control", "")) is not is_shared
        varies = {"Accept", "Authorization", "Cookie"}
        assert set(filter(None, each.headers.get("vary", "").split(", "))) == (set() if is_shared else varies)


def test_what_depends_on_what_a_request_says_tells_caches_so(sqlite_database: Database, tmp_path: Path) -> None:
    """The same address has answers of several forms, for several callers."""
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    board = client.get("/leaderboard?task=digits")
    table = client.get("/leaderboard?task=digits", headers={"Accept": "text/csv"})
    unchanged = client.get("/leaderboard?task=digits", headers={"If-None-Match": board.headers["etag"]})
    page, problem = (client.get("/nowhere", headers={"Accept": each}) for each in ("text/html", "application/json"))
    library = client.get(plotly.PATH)

    assert (table.headers["content-type"], unchanged.status_code) == ("text/csv; charset=utf-8", 304)
    assert page.headers["content-type"] != problem.headers["content-type"]
    for each in (board, table, unchanged, page, problem):
        assert each.headers["vary"] == "Accept, Authorization, Cookie"
    assert library.headers["vary"] == "Accept-Encoding"


def test_what_fails_has_them_too(sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    monkeypatch.setattr("service.routes.searches.list_searches", lambda *_: 1 / 0)

    failed = TestClient(client.app, base_url=LOCAL, raise_server_exceptions=False).get("/searches")

    assert failed.status_code == 500
    assert failed.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_the_policy_lets_no_script_run_that_is_not_a_file_of_this_server() -> None:
    directives = dict(each.split(" ", 1) for each in CONTENT_SECURITY_POLICY.split("; "))

    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert directives["base-uri"] == "'none'"
    assert "*" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("template", sorted(PAGES.rglob("*.html")), ids=lambda path: path.name)
def test_no_template_holds_a_script_or_an_address_elsewhere(template: Path) -> None:
    text = template.read_text()

    assert not re.findall(r"<script(?![^>]*\bsrc=)", text)
    assert not re.findall(r"\son[a-z]+\s*=", text)
    assert not re.findall(r"""(?:src|action)=["'](?:https?:)?//""", text)
    assert not re.findall(r"""<link[^>]*href=["'](?:https?:)?//""", text)


def test_no_other_site_is_told_what_it_may_read(sqlite_database: Database, tmp_path: Path) -> None:
    key = make_key(sqlite_database, Role.READ)
    client = server(sqlite_database, tmp_path)
    origin = {"Origin": "http://evil.example.org"}

    read = client.get("/searches", headers=bearer(key) | origin)
    asked = client.options("/search", headers=origin | {"Access-Control-Request-Method": "POST"})
    posted = client.post("/search", json=BODY, headers=bearer(key) | origin)

    for answered in (read, asked, posted):
        assert not [name for name in answered.headers if name.startswith("access-control-")]
    assert posted.status_code == 403
