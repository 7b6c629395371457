"""Homes and databases that a command cannot use, or has to find: one sentence with the remedy, and no traceback."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import serving
from sqlalchemy import text

from searcher.database import Database
from searcher.identity import identity_of
from service.app import create_app
from service.cli import main
from service.servers import running_server
from service.settings import Settings, load_settings
from tests.service.processes import QUANTRANK

REPRODUCE = ["reproduce", "figure-3", "--scale", "smoke", "--workers", "1"]
COMMANDS = [
    ["serve", "--port", "0", "--workers", "0"],
    ["search", "--task", "digits", "--parameter-budget", "9000"],
    ["search", "--task", "digits", "--parameter-budget", "9000", "--estimate"],
    ["watch", "1"],
    ["leaderboard", "--task", "digits"],
    ["workers"],
    ["worker"],
    ["worker", "--concurrency", "2"],
    ["ray"],
    ["export", "1", "--format", "onnx"],
    ["measure", "1"],
    ["gc"],
    ["keys", "list"],
    ["keys", "create", "ada"],
    ["db", "upgrade"],
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_template: Path) -> Path:
    """With a database of this release."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(sqlite_template, home / "quantrank.db")
    for name in [name for name in os.environ if name.startswith("QUANTRANK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUANTRANK_HOME", str(home))
    monkeypatch.setenv("QUANTRANK_PORT", "9")
    return home


def refused(capsys: pytest.CaptureFixture[str], command: list[str]) -> str:
    assert main(command) == 2
    shown = capsys.readouterr()
    told = shown.err.strip()
    assert told.count("\n") == 0, told
    assert told.startswith("quantrank: QUANTRANK_")
    assert "see " not in told.replace("see that", "")
    return told


def newer(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_of_a_newer_releases_home_what_to_do(
    capsys: pytest.CaptureFixture[str], home: Path, command: list[str]
) -> None:
    newer(load_settings().open_database())

    told = refused(capsys, command)

    assert told.startswith(
        f"quantrank: QUANTRANK_HOME: '{home}' has the tables of a newer release of quantrank (revision"
    )
    assert told.endswith("install that release, or name another database")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_of_a_newer_releases_postgresql_what_to_do(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    postgres_database: Database,
    command: list[str],
) -> None:
    newer(postgres_database)
    monkeypatch.setenv("QUANTRANK_DATABASE_URL", postgres_database.url.render_as_string(hide_password=False))

    told = refused(capsys, command)

    assert told.startswith("quantrank: QUANTRANK_DATABASE_URL: 'postgresql://")
    assert "newer release of quantrank (revision 9999; " in told


def spoilt(path: Path) -> None:
    path.write_bytes(b"these are notes, and long enough to be read as a database " * 100)


def damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * 4000 + content[4100:])


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoilt, "file is not a database"),
        (damaged, "malformed"),
        (foreign, "another program's database"),
        (folder, "quantrank.db in it is a folder"),
    ],
)
@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[1], COMMANDS[6], COMMANDS[-1]], ids=" ".join)
def test_what_is_no_database_of_quantrank_is_named_with_its_home(
    capsys: pytest.CaptureFixture[str], home: Path, command: list[str], spoil: Callable[[Path], None], told: str
) -> None:
    spoil(home / "quantrank.db")
    found = refused(capsys, command)
    assert found.startswith(f"quantrank: QUANTRANK_HOME: '{home}'")
    assert told in found


def test_the_reason_why_an_own_server_does_not_start_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """What only the server itself meets."""
    monkeypatch.setenv("QUANTRANK_LOG", "json")
    monkeypatch.setenv("QUANTRANK_BOOTSTRAP_KEY_FILE", str(home / "nowhere"))

    assert main(["leaderboard", "--task", "digits"]) == 2

    told = capsys.readouterr().err
    assert "did not start (QUANTRANK_BOOTSTRAP_KEY_FILE: " in told
    assert "see " not in told


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """A file or folder that nobody can write: root may write what is only not permitted."""
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def can_mount(tmp_path: Path) -> bool:
    probe = tmp_path / "probe"
    probe.mkdir()
    try:
        with read_only(probe):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.mark.parametrize("command", [*COMMANDS, REPRODUCE], ids=" ".join)
@pytest.mark.parametrize("present", [True, False])
def test_every_command_says_of_a_read_only_home_that_it_is(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, command: list[str], present: bool
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("nothing can be mounted here")
    if not present:
        (home / "quantrank.db").unlink()
        if command[0] in ("export", "measure", "gc", "watch"):
            pytest.skip("without a database there is nothing to open")
    with read_only(home):
        told = refused(capsys, command)
    assert told.startswith(f"quantrank: QUANTRANK_HOME: '{home}' is no folder that this user can write (")
    assert "Read-only file system" in told
    assert told.endswith("make all of it writable, or name another folder")


@pytest.mark.parametrize("part", ["quantrank.db", "quantrank.db-wal", "logs", "server.json", "reproduce"])
def test_a_part_of_a_home_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, part: str
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("nothing can be mounted here")
    place = home / part
    if part in ("logs", "reproduce"):
        place.mkdir()
    elif not place.exists():
        place.write_bytes(b"")
    command = {"server.json": COMMANDS[0], "reproduce": REPRODUCE}
    with read_only(place):
        told = refused(capsys, command.get(part, ["leaderboard", "--task", "digits"]))
    assert told.startswith(f"quantrank: QUANTRANK_HOME: '{home}' is no folder that this user can write (")
    assert part in told


def test_what_needs_no_home_works_on_a_read_only_one(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("nothing can be mounted here")
    with read_only(home):
        assert main(["describe", "basic-L8-D8", "--task", "digits"]) == 0
        assert main(["candidates", "--task", "digits", "--parameter-budget", "20000"]) == 0


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "a b", "ä€", "a&mode=memory", "a;b", "a::b", "a\\b", "[ab]*"])
def test_the_database_and_the_artifacts_are_in_the_home_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    home = tmp_path / name
    monkeypatch.setenv("QUANTRANK_HOME", str(home))
    assert main(["db", "upgrade"]) == 0
    settings = load_settings()
    artifacts = settings.open_artifacts()
    artifacts.write("networks/x", b"content")
    copy = Database(settings.named_database().url.render_as_string(hide_password=False))  # as Ray's trials are told

    assert (home / "quantrank.db").is_file()
    assert identity_of(copy) == identity_of(settings.open_database())
    assert [each.name for each in artifacts.files()] == ["networks/x"]
    assert (home / "artifacts" / "networks" / "x").read_bytes() == b"content"
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("given", "place"), [("~/own", "own"), ("own", "here/own"), ("../own", "own"), ("~", "")])
def test_a_relative_home_and_one_from_the_users_are_whole_paths(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, place: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QUANTRANK_HOME", given)
    settings = load_settings()
    monkeypatch.chdir("/")

    assert settings.home.resolve() == (tmp_path / place).resolve()
    assert settings.home.is_absolute()


def test_the_home_of_a_user_who_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUANTRANK_HOME", "~nobodywhoishere/own")
    assert main(["db", "upgrade"]) == 2
    assert "QUANTRANK_HOME: '~nobodywhoishere/own'" in capsys.readouterr().err


@contextmanager
def served(settings: Settings, database: Database, identity: str | None) -> Iterator[int]:
    app = create_app(settings, database)
    app.state.identity = identity
    with serving(app) as url:
        yield int(url.rpartition(":")[2])


def test_a_server_of_the_same_database_is_used_and_of_another_left_alone(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, sqlite_template: Path
) -> None:
    own = load_settings().open_database()
    other_home = tmp_path / "other"
    shutil.copytree(home, other_home)  # a copy is another, too
    other = Settings(home=other_home).open_database()

    with served(Settings(home=home), own, identity_of(own)) as port:
        found = running_server(None, Settings(home=home, port=port))
        linked = tmp_path / "linked"
        linked.symlink_to(home)
        same = running_server(None, Settings(home=linked, port=port))
        assert capsys.readouterr().err == ""
        left_alone = running_server(None, Settings(home=other_home, port=port))
        told = capsys.readouterr().err
        fresh = running_server(None, Settings(home=tmp_path / "none", port=port))
        named = running_server(None, Settings(home=other_home, url=f"http://127.0.0.1:{port}"))
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz").json()
    with served(Settings(home=home), own, None) as port:  # as of an older release
        older = running_server(None, Settings(home=home, port=port))

    assert found is not None
    assert same is not None
    assert named is not None
    assert left_alone is None
    assert fresh is None
    assert older is None
    assert told.count("\n") == 1
    assert "does not serve the database of QUANTRANK_HOME" in told
    assert "--url or QUANTRANK_URL" in told
    assert str(home) not in str(answer)
    assert answer["database"] != identity_of(other)


def test_postgresql_is_one_database_however_its_url_is_spelled(
    postgres_database: Database, fresh_postgres: str
) -> None:
    url = postgres_database.url
    spelled = Database(url.update_query_dict({"application_name": "x"}).render_as_string(hide_password=False))
    other = Database(fresh_postgres)

    assert identity_of(spelled) == identity_of(postgres_database) != identity_of(other)
    assert str(url.database) not in identity_of(other)


def test_a_command_beside_a_foreign_server_starts_its_own_and_tells_that_no_key(
    home: Path, tmp_path: Path, sqlite_database: Database
) -> None:
    """The one at the usual port; an announcement that is out of date leads nobody to it, either."""
    heard: list[Any] = []

    def listening(scope: Any) -> None:
        heard.extend(value for name, value in scope["headers"] if name == b"authorization")

    app = create_app(Settings(home=tmp_path), sqlite_database)
    app.state.identity = "another"

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            listening(scope)
        await app(scope, receive, send)

    asked.state = app.state  # type: ignore[attr-defined]
    with serving(asked) as url:  # type: ignore[arg-type]
        (home / "server.json").write_text(f'{{"url": "{url}"}}')
        environment = {**os.environ, "QUANTRANK_PORT": url.rpartition(":")[2], "QUANTRANK_API_KEY": "qr_" + "a" * 40}
        ended = subprocess.run(
            [QUANTRANK, "workers"], env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "No worker runs.\n"
    assert ended.stderr.count("does not serve the database of QUANTRANK_HOME") == 1
    assert heard == []
