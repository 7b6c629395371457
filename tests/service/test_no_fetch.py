"""Nothing that a caller sends has the server open a connection, or read outside the data root."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from callers import BODY, LOCAL, server

from searcher.database import Database

ELSEWHERE = [
    "http://198.51.100.7/x",
    "https://198.51.100.7/x.safetensors",
    "ftp://198.51.100.7/x.safetensors",
    "s3://bucket/x.safetensors",
    "file:///etc/passwd",
    "//198.51.100.7/share/x.safetensors",
    "\\\\198.51.100.7\\share\\x.safetensors",
    "/etc/passwd",
    "/proc/self/environ",
    "../../../../etc/passwd",
    "images/../../../etc",
    "a\0b.safetensors",
    "x" * 64,
]

_WATCHED = ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "urllib.Request")
_opened: list[tuple[str, str]] = []
_is_listening = False


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _is_listening and event in _WATCHED:
        _opened.append((event, str(arguments[1] if event == "socket.connect" else arguments[0])))


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_hear)  # for as long as the process lives


@contextmanager
def listening() -> Iterator[list[tuple[str, str]]]:
    """Files, processes and connections that this process opens while the block lasts."""
    global _is_listening
    _opened.clear()
    _is_listening = True
    try:
        yield _opened
    finally:
        _is_listening = False


def test_what_the_server_opens_would_be_noticed(tmp_path: Path) -> None:
    with listening() as opened:
        Path("/etc/passwd").read_bytes()

    assert ("open", "/etc/passwd") in opened


def test_no_value_leads_the_server_elsewhere(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    for value in ELSEWHERE:
        checkpoint = {"float_part": {"checkpoint": {"path": value}}}
        bodies: list[dict[str, Any]] = [
            BODY | {"task": value},
            BODY | {"recipe": value},
            BODY | {"blocks": [value]},
            BODY | {"architectures": [value]},
            BODY | {"bit_widths": [value]},
            BODY | {"architectures": ["basic-L8-D3"], "recipe": checkpoint},
        ]

        with listening() as opened:
            posted = [client.post(path, json=body) for path in ("/search", "/search/estimate") for body in bodies]
            asked = [
                client.get("/leaderboard", params={"task": value}),
                client.get("/leaderboard", params={"task": "digits", "recipe": value}),
                client.get("/evaluations/1/model", params={"stage": value}),
            ]

        assert {answer.status_code for answer in (*posted, *asked)} <= {404, 422}, value
        assert [each for each in opened if each[0] != "open"] == [], value
        told = [path for _, path in opened if any(each in path for each in ("passwd", "environ", "198.51", "bucket"))]
        assert [path for path in told if not Path(path).resolve().is_relative_to(tmp_path.resolve())] == [], value
