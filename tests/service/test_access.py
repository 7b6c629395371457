"""Who is let in: keys and roles, and what needs no key on this host."""

from __future__ import annotations

from pathlib import Path

import pytest
from callers import BODY, ELSEWHERE, LOCAL, bearer, make_key, server
from sqlalchemy import text

from qcore import InvalidInput
from searcher.api_keys import list_keys, revoke_key
from searcher.database import Database
from service.access.addresses import host_of, is_loopback
from service.access.bootstrap import admit_bootstrap_key
from service.access.roles import Role
from service.access.secrets import digest_of, hint_of, new_key
from service.app import create_app
from service.cli import main
from service.settings import Settings


@pytest.mark.parametrize("url", [LOCAL, "http://localhost:8000", "http://[::1]:8000", "http://127.9.9.9"])
def test_on_this_host_no_key_is_needed(sqlite_database: Database, tmp_path: Path, url: str) -> None:
    client = server(sqlite_database, tmp_path, url, on_loopback=True)

    posted = client.post("/search", json=BODY)

    assert posted.status_code == 201
    assert posted.json()["posted_by"] is None
    assert client.post(posted.json()["links"]["cancel"]).json()["status"] == "cancelled"


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://rebound.example.org:8000", {}),
        ("http://127.0.0.1.example.org", {}),
        ("http://localhost.example.org", {}),
        ("http://0.0.0.0:8000", {}),
        ("http://2130706433", {}),
        (LOCAL, {"Host": ""}),
        (LOCAL, {"Host": "127.0.0.1@example.org"}),
        (LOCAL, {"X-Forwarded-For": "127.0.0.1"}),
        (LOCAL, {"Forwarded": "for=198.51.100.7"}),
    ],
)
def test_what_was_not_meant_for_this_host_needs_a_key_there_too(
    sqlite_database: Database, tmp_path: Path, url: str, headers: dict[str, str]
) -> None:
    key = make_key(sqlite_database, Role.READ)
    client = server(sqlite_database, tmp_path, url, on_loopback=True)

    refused = client.get("/searches", headers=headers)

    assert refused.status_code == 401
    assert "127.0.0.1 or localhost" in refused.json()["detail"]
    assert client.get("/searches", headers=headers | bearer(key)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example.org"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": LOCAL},
    ],
)
def test_a_page_of_another_site_changes_nothing_on_this_host(
    sqlite_database: Database, tmp_path: Path, headers: dict[str, str]
) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    search = client.post("/search", json=BODY, headers={"Origin": LOCAL, "Sec-Fetch-Site": "same-origin"}).json()

    refused = client.post(search["links"]["cancel"], headers=headers)

    assert refused.status_code == 403
    assert client.get(search["links"]["self"]).json()["status"] == "running"


def _paths() -> list[tuple[str, str]]:
    schema = create_app(Settings(), Database("sqlite:////nowhere.db")).openapi()
    return [(method, path) for path, methods in schema["paths"].items() for method in methods]


@pytest.mark.parametrize(
    ("method", "path"),
    [*_paths(), ("get", "/"), ("get", "/docs"), ("get", "/redoc"), ("get", "/openapi.json"), ("get", "/nowhere")],
)
def test_elsewhere_only_health_and_static_files_need_no_key(
    sqlite_database: Database, tmp_path: Path, method: str, path: str
) -> None:
    client = server(sqlite_database, tmp_path)

    answered = client.request(method, path)

    if path in ("/healthz", "/readyz"):
        assert answered.status_code == 200
    else:
        assert answered.status_code == 401
        assert answered.headers["www-authenticate"].startswith("Bearer")
        assert answered.headers["content-type"] == "application/problem+json"
        assert "quantrank keys create" in answered.json()["detail"]
    assert client.get("/static/style.css").status_code == 200


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        ("Bearer qr_unknown", "is not known here"),
        ("Bearer ", "is not known here"),
        ("Bearer ключ", "is not known here"),
        ("Basic dXNlcjpwYXNz", "Bearer KEY"),
        ("", "Bearer KEY"),
    ],
)
def test_what_is_no_key_is_refused_on_this_host_too(
    sqlite_database: Database, tmp_path: Path, authorization: str, told: str
) -> None:
    for client in (server(sqlite_database, tmp_path), server(sqlite_database, tmp_path, LOCAL, on_loopback=True)):
        refused = client.get("/searches", headers={"Authorization": authorization.encode()})

        assert refused.status_code == 401
        assert told in refused.json()["detail"]


def test_roles_see_post_and_change(database: Database, tmp_path: Path) -> None:
    client = server(database, tmp_path)
    reader, poster, other, admin = (
        bearer(make_key(database, role, name))
        for role, name in [(Role.READ, "eve"), (Role.SUBMIT, "ada"), (Role.SUBMIT, "bob"), (Role.ADMIN, "root")]
    )
    refused = client.post("/search", json=BODY, headers=reader)
    search = client.post("/search", json=BODY, headers=poster).json()
    cancel, extend = search["links"]["cancel"], search["links"]["extend"]

    assert refused.status_code == 403
    assert "role submit" in refused.json()["detail"]
    assert search["posted_by"] == "ada"
    for headers in (reader, poster, other, admin):
        assert client.get(search["links"]["self"], headers=headers).json() == search
        assert client.get(search["links"]["page"], headers=headers).status_code == 200
    for headers in (reader, other):
        assert client.post(cancel, headers=headers).status_code == 403
    assert "'ada'" in client.post(extend, json={"max_evaluations": 5}, headers=other).json()["detail"]
    assert client.post(extend, json={"max_evaluations": 5}, headers=poster).json()["max_evaluations"] == 5
    assert client.get(search["links"]["self"], headers=reader).json()["status"] == "running"
    assert client.post(cancel, headers=admin).json()["status"] == "cancelled"


def test_a_search_posted_without_a_key_is_an_admins_to_change(sqlite_database: Database, tmp_path: Path) -> None:
    search = server(sqlite_database, tmp_path, LOCAL, on_loopback=True).post("/search", json=BODY).json()
    client = server(sqlite_database, tmp_path)

    refused = client.post(search["links"]["cancel"], headers=bearer(make_key(sqlite_database, Role.SUBMIT)))

    assert refused.status_code == 403
    assert "without a key" in refused.json()["detail"]


def test_a_revoked_key_lets_nobody_in(database: Database, tmp_path: Path) -> None:
    client, key = server(database, tmp_path), make_key(database, Role.ADMIN)
    assert client.get("/searches", headers=bearer(key)).status_code == 200
    with database.write() as session:
        (stored,) = list_keys(session)
        assert stored.last_used_at is not None
        revoke_key(session, stored.id)

    refused = client.get("/searches", headers=bearer(key))

    assert refused.status_code == 401
    assert "was revoked" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:192.0.2.1", False),
        ("192.168.1.5", False),
        ("localhost.example.org", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_only_loopback_addresses_are_this_hosts_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("header", "host"),
    [("[::1]:8000", "::1"), ("localhost", "localhost"), ("LOCALHOST:1", "localhost"), ("[::1", ""), ("a@b:1", "b")],
)
def test_the_host_is_read_from_its_header(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "API_KEY", "API_KEY_FILE", "BOOTSTRAP_KEY_FILE"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))
    return tmp_path


def test_commands_make_list_and_revoke_keys(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> str:
        assert main(["keys", *arguments]) == 0
        return capsys.readouterr().out

    nothing = run("list")
    key = run("create", "ada", "--role", "read").strip()
    listed = run("list")
    revoked = run("revoke", "1")

    assert "no keys" in nothing
    assert key.startswith("qr_")
    assert len(key) > 40
    assert hint_of(key) in listed
    assert "ada" in listed
    assert key not in listed
    assert "ada" in revoked
    database = Settings(home=home).open_database()
    with database.read() as session:
        stored = session.execute(text("SELECT * FROM api_keys")).all()
    assert key not in repr(stored)
    assert digest_of(key) in repr(stored)
    database.dispose()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "ada"], "is another key's"),
        (["create", "bootstrap"], "choose another"),
        (["create", " "], "printable"),
        (["create", "x" * 65], "printable"),
        (["create", "a\nb"], "printable"),
        (["revoke", "7"], "keys list"),
        (["revoke", "-7"], "keys list"),
        (["revoke", "9" * 30], "keys list"),
    ],
)
def test_what_cannot_be_done_to_keys_says_why(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["keys", "create", "ada"]) == 0

    assert main(["keys", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_the_name_of_a_revoked_key_may_be_taken_again(home: Path) -> None:
    for arguments in (["create", "ada"], ["revoke", "1"], ["create", "ada"]):
        assert main(["keys", *arguments]) == 0


def test_beyond_this_host_nothing_is_served_without_keys(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--port", "0", "--workers", "0"]) == 2

    told = capsys.readouterr().err
    assert "quantrank keys create" in told
    assert "QUANTRANK_BOOTSTRAP_KEY_FILE" in told


def test_a_server_may_be_given_its_first_key_in_a_file(database: Database, tmp_path: Path) -> None:
    file, first, second = tmp_path / "key", new_key(), new_key()
    file.write_text(f"{first}\n")
    for _ in range(2):
        admit_bootstrap_key(database, file)
    client = server(database, tmp_path)
    assert client.post("/search", json=BODY, headers=bearer(first)).status_code == 201

    file.write_text(second)
    admit_bootstrap_key(database, file)

    assert client.get("/searches", headers=bearer(second)).status_code == 200
    assert client.get("/searches", headers=bearer(first)).status_code == 401
    file.write_text(first)
    with pytest.raises(InvalidInput, match="was revoked"):
        admit_bootstrap_key(database, file)
    assert first not in str(file)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"short", "could be guessed"),
        (b"", "is no API key"),
        (b"two words" * 9, "is no API key"),
        (b"\xff" * 40, "text"),
    ],
)
def test_a_file_without_a_usable_key_is_refused_and_not_shown(
    sqlite_database: Database, tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)

    with pytest.raises(InvalidInput, match=told) as refused:
        admit_bootstrap_key(sqlite_database, file)

    assert "two words" not in str(refused.value)
    with pytest.raises(InvalidInput, match="cannot be read"):
        admit_bootstrap_key(sqlite_database, tmp_path / "nowhere")


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTRANK_API_KEY", "gehe\nim")

    assert main(["leaderboard", "--task", "digits", "--url", ELSEWHERE]) == 2

    told = capsys.readouterr().err
    assert "QUANTRANK_API_KEY" in told
    assert "gehe" not in told
