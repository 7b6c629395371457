"""What somebody may try who has no key, or a little one: each of these went through, or would, without its mend."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from callers import BODY, ELSEWHERE, LOCAL, bearer, make_key, server, sign_in
from fastapi.testclient import TestClient
from live import events_of, serving

from searcher.api_keys import list_keys, revoke_key
from searcher.database import Database
from searcher.events import emit, lock_searches
from service import feed
from service.access.roles import Role
from service.app import create_app
from service.output import print_table
from service.patience import ImpatientProtocol
from service.routes import events, measurements
from service.servers import running_server
from service.settings import Settings


class Hurried(ImpatientProtocol):
    seconds = 0.2


@pytest.fixture
def url(sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server for all hosts, as `quantrank serve` has it, but for its patience."""
    monkeypatch.setattr(feed, "POLL_SECONDS", 0.01)
    app = create_app(Settings(home=tmp_path, database_url=None), sqlite_database, on_loopback=False)
    with serving(app, http=Hurried, ws="none") as url:
        yield url


def connected(url: str) -> socket.socket:
    connection = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=30)
    connection.settimeout(30)
    return connection


def answer(url: str, request: str) -> bytes:
    """What comes back until the server closes the connection."""
    with connected(url) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../searches",
        "/static/..%2fsearches",
        "/static%2f..%2fsearches",
        "/static/../../app.py",
        "/static/..%2f..%2fapp.py",
        "/static/..%5c..%5capp.py",
        "/static//etc/passwd",
        "/static/swagger/..%2f__init__.py",
        "/static/%00",
        "//searches",
        "/./searches",
        "/healthz/../searches",
        "/sign-in/../searches",
        "/healthz/",
        "/SEARCHES",
        "http://127.0.0.1/searches",
    ],
)
def test_no_spelling_of_a_path_leads_past_the_guard_or_out_of_a_folder(url: str, path: str) -> None:
    found = answer(url, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")

    assert found.split()[1] in (b"401", b"404")


@pytest.mark.parametrize(
    "headers",
    [
        "Host: 127.0.0.1\r\nHost: quantrank.example.org",
        "Host: 127.0.0.1\r\nContent-Length: -1",
        "Host: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2",
        "Host: 127.0.0.1\r\nX: a\rb",
    ],
    ids=["two hosts", "negative", "two lengths", "bare return"],
)
def test_what_two_servers_could_read_differently_is_refused(url: str, headers: str) -> None:
    assert answer(url, f"GET /searches HTTP/1.1\r\n{headers}\r\n\r\n").split()[1] == b"400"


def test_who_wants_another_protocol_needs_a_key_as_well(url: str) -> None:
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13"

    found = answer(url, f"GET /searches HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n{upgrade}\r\n\r\n")

    assert found.split()[1] == b"401"


@pytest.mark.parametrize(
    "part",
    ["", "GET / HTTP/1.1\r\nX:", "POST /sign-in HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nContent-Length: 9\r\n\r\na"],
)
def test_a_request_that_does_not_come_whole_is_not_waited_for(url: str, part: str) -> None:
    assert answer(url, part) == b""


def test_an_answer_takes_as_long_as_it_takes(url: str, sqlite_database: Database) -> None:
    key = bearer(make_key(sqlite_database, Role.SUBMIT))
    with httpx.Client(base_url=url, headers=key, timeout=30) as client:
        links = client.post("/search", json=BODY).json()["links"]
        with client.stream("GET", links["events"]) as stream:
            told = events_of(stream)
            next(told)
            assert answer(url, "GET / HTTP/1.1\r\n") == b""  # patience that began later has ended
            httpx.post(url + links["cancel"], headers=key)

            assert "search_cancelled" in [each.get("event") for each in told]


def test_a_stream_ends_with_its_key(url: str, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "CHECK_SECONDS", 0)
    key = bearer(make_key(sqlite_database, Role.SUBMIT))
    search = httpx.post(f"{url}/search", json=BODY, headers=key).json()
    with httpx.stream("GET", url + search["links"]["events"], headers=key, timeout=30) as stream:
        told = events_of(stream)
        next(told)
        with sqlite_database.write() as session:
            revoke_key(session, list_keys(session)[0].id)
            emit(session, lock_searches(session, [search["id"]]), "secret")

        for each in told:
            assert each.get("event") != "secret"


def test_another_sites_page_loads_nothing_and_links_here_all_the_same(
    sqlite_database: Database, tmp_path: Path
) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    frame = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    script = {"Origin": "http://evil.example.org"}

    for headers in (image, frame, script):
        assert client.get("/searches", headers=headers).status_code == 403
    assert client.get("/", headers=link).status_code == 200
    assert client.post("/search", json=BODY, headers=link).status_code == 403


class Taken:
    """A lock that somebody has."""

    def acquire(self, blocking: bool = True) -> bool:
        assert not blocking, "whoever waits here keeps a thread"
        return False


def test_measuring_makes_nobody_wait(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "stage_to_export", lambda *_: (None, None))
    monkeypatch.setattr(measurements, "trained_network", lambda *_: None)
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)

    monkeypatch.setattr(measurements, "_one_at_a_time", Taken())

    refused = client.get("/ui/evaluations/1/measurements", params={"stage": "x"})

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "10"


def test_who_looks_at_a_browser_is_told_on_a_page(sqlite_database: Database, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path, requests_per_minute=1), sqlite_database, on_loopback=False)
    client = TestClient(app, base_url=ELSEWHERE)
    sign_in(client, make_key(sqlite_database, Role.READ))

    refused = client.get("/", headers={"Accept": "text/html"})

    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "Too many requests" in refused.text
    assert refused.headers["content-type"].startswith("text/html")


def test_no_answer_leads_to_the_host_that_a_request_names(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path, ELSEWHERE)
    key = bearer(make_key(sqlite_database, Role.READ))

    for path in ("/searches/", "/tasks/", "/static/swagger", "/docs/"):
        found = client.get(path, headers=key | {"Host": "evil.example.org"}, follow_redirects=False)

        assert "evil" not in found.headers.get("location", "")


def test_a_page_of_no_site_is_not_one_of_a_server_without_a_name(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path)

    for host in ("", "null"):
        refused = client.post("/sign-in", data={"key": "x"}, headers={"Origin": "null", "Host": host})

        assert refused.status_code == 403


def test_a_request_that_is_wrong_all_over_is_answered_in_short(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    body: dict[str, Any] = BODY | {f"field_{index}": "x" * 5 for index in range(10_000)}

    refused = client.post("/search", json=body)

    assert refused.status_code == 422
    assert len(refused.content) < 16_384


@pytest.mark.parametrize("depth", [50, 500, 5000, 40_000])
def test_a_request_that_is_nested_deeply_is_refused(sqlite_database: Database, tmp_path: Path, depth: int) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    nested = '{"a":' * depth + "1" + "}" * depth
    content = f'{{"task": "digits", "parameter_budget": 20000, "recipe": {nested}}}'

    refused = client.post("/search", content=content, headers={"Content-Type": "application/json"})

    assert refused.status_code in (400, 413, 422)


def test_a_key_is_told_to_no_server_that_just_happens_to_listen(tmp_path: Path) -> None:
    heard: list[str | None] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"service": "quantrank", "version": "0"}')

        def log_message(self, *_: object) -> None:
            pass

    somebody = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=somebody.serve_forever, daemon=True).start()
    found = running_server(None, Settings(home=tmp_path, url=None, api_key="qr_mine", port=somebody.server_port))
    somebody.shutdown()
    somebody.server_close()

    assert found is None
    assert heard == [None]


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Keys", ["name"], [["[link=http://evil.example.org]ada[/link] :warning:"]])

    assert "[link=http://evil.example.org]ada[/link] :warning:" in capsys.readouterr().out
