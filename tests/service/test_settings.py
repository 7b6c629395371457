"""Settings: all of them documented, and the database's password in a file of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rehearsal import CHECKOUT

from qcore import InvalidInput
from service.settings import Settings, load_settings

URL = "postgresql://quantrank@host/quantrank"


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "password"
    path.write_text("p@ss/w:rd\n")
    monkeypatch.setenv("QUANTRANK_DATABASE_URL", URL)
    monkeypatch.setenv("QUANTRANK_DATABASE_PASSWORD_FILE", str(path))
    return path


@pytest.mark.usefixtures("password_file")
def test_the_database_password_is_a_files_one_line() -> None:
    url = load_settings().open_database().url

    assert (url.username, url.password, url.host) == ("quantrank", "p@ss/w:rd", "host")
    assert "p@ss" not in str(url)


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff\xfe"])
def test_a_file_that_holds_no_password_is_named_without_what_it_holds(password_file: Path, content: bytes) -> None:
    password_file.write_bytes(content)

    with pytest.raises(InvalidInput) as refused:
        load_settings().open_database()
    assert (refused.value.field, refused.value.value) == ("QUANTRANK_DATABASE_PASSWORD_FILE", str(password_file))
    assert "two" not in str(refused.value)


def test_a_password_file_that_is_not_there_is_named(password_file: Path) -> None:
    password_file.unlink()

    with pytest.raises(InvalidInput, match=r"PASSWORD_FILE: .* cannot be read"):
        load_settings().open_database()


@pytest.mark.usefixtures("password_file")
@pytest.mark.parametrize(
    "url", ["postgresql://quantrank:h1dden@host/quantrank", f"{URL}?password=h1dden", "sqlite:////tmp/quantrank.db"]
)
def test_a_password_beside_one_that_is_there_or_beside_a_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("QUANTRANK_DATABASE_URL", url)

    with pytest.raises(InvalidInput, match="QUANTRANK_DATABASE_PASSWORD_FILE") as refused:
        load_settings().open_database()
    assert refused.value.field == "QUANTRANK_DATABASE_URL"
    assert "h1dden" not in str(refused.value)


def test_every_setting_is_in_the_documents_table() -> None:
    (table,) = re.findall(
        r"## Settings\n.*?\n\n((?:\|.*\n)+)", (CHECKOUT / "docs/operations.md").read_text(), re.DOTALL
    )

    assert set(re.findall(r"`QUANTRANK_(\w+)`", table)) == {name.upper() for name in Settings.model_fields}
