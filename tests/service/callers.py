"""Servers, keys and browsers for tests of who is let in."""

from __future__ import annotations

from pathlib import Path

import httpx
from fastapi.testclient import TestClient

from searcher.api_keys import add_key
from searcher.database import Database
from service.access.roles import Role
from service.access.secrets import digest_of, hint_of, new_key
from service.app import create_app
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000}
LOCAL, ELSEWHERE = "http://127.0.0.1:8000", "http://quantrank.example.org"


def make_key(database: Database, role: Role, name: str = "somebody", **allowances: int) -> str:
    key = new_key()
    with database.write() as session:
        add_key(session, name, role, digest_of(key), hint_of(key), **allowances)
    return key


def server(database: Database, tmp_path: Path, url: str = ELSEWHERE, *, on_loopback: bool = False) -> TestClient:
    app = create_app(Settings(home=tmp_path, database_url=None), database, on_loopback=on_loopback)
    return TestClient(app, base_url=url)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def own(client: TestClient) -> dict[str, str]:
    """What a browser says of what a page of that server asks."""
    return {"Origin": str(client.base_url).rstrip("/")}


def sign_in(client: TestClient, key: str, path: str = "/", **headers: str) -> httpx.Response:
    """As a browser posts the form of the server's own page."""
    sent = own(client) | headers
    return client.post("/sign-in", data={"key": key, "next": path}, headers=sent, follow_redirects=False)
