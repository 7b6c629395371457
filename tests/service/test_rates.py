"""How often keys may ask, and how many wrong ones are told so."""

from __future__ import annotations

from pathlib import Path

import pytest
from callers import BODY, ELSEWHERE, bearer, make_key, own, sign_in
from fastapi.testclient import TestClient

from searcher.database import Database
from service.access.rates import Rate, network_of
from service.access.roles import Role
from service.app import create_app
from service.settings import Settings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def server(database: Database, tmp_path: Path, address: str = "192.0.2.1", **rates: int) -> TestClient:
    app = create_app(Settings(home=tmp_path, database_url=None, **rates), database, on_loopback=False)
    return TestClient(app, base_url=ELSEWHERE, client=(address, 50_000))


def from_another(client: TestClient, address: str) -> TestClient:
    return TestClient(client.app, base_url=ELSEWHERE, client=(address, 50_000))


def test_so_many_are_taken_at_once_and_then_one_after_another() -> None:
    clock = Clock()
    rate = Rate(6, clock)

    assert [rate.take("ada") for _ in range(6)] == [0.0] * 6
    assert rate.take("ada") == pytest.approx(10)
    assert rate.take("bob") == 0
    clock.now += 4
    assert rate.wait("ada") == pytest.approx(6)
    clock.now += 6.1
    assert (rate.take("ada"), rate.take("ada") > 0) == (0, True)
    clock.now += 60
    assert [rate.take("ada") for _ in range(6)] == [0.0] * 6


def test_looking_counts_nothing() -> None:
    rate = Rate(1, Clock())

    assert [rate.wait("ada") for _ in range(3)] == [0, 0, 0]
    assert rate.take("ada") == 0


def test_who_has_been_quiet_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.access.rates._MOST_REMEMBERED", 10)
    clock = Clock()
    rate = Rate(60, clock)
    for number in range(20):
        rate.take(number)
        clock.now += 10

    assert len(rate._full_until) <= 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_addresses_are_counted_for_who_holds_them(address: str, network: str) -> None:
    assert network_of(address) == network


def test_a_key_asks_so_often_and_is_told_when_to_come_again(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path, requests_per_minute=3)
    ada, bob = (bearer(make_key(sqlite_database, Role.SUBMIT, name)) for name in ("ada", "bob"))
    for _ in range(3):
        assert client.get("/searches", headers=ada).status_code == 200

    refused = client.post("/search", json=BODY, headers=ada)

    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert "'ada'" in refused.json()["detail"]
    assert client.get("/healthz").status_code == 200
    assert client.get("/searches", headers=bob).json()["searches"] == []


def test_a_browser_counts_for_the_key_it_signed_in_with(sqlite_database: Database, tmp_path: Path) -> None:
    client, key = server(sqlite_database, tmp_path, requests_per_minute=3), make_key(sqlite_database, Role.SUBMIT)
    sign_in(client, key)
    assert client.get("/searches").status_code == 200
    assert client.get("/searches", headers=bearer(key)).status_code == 200

    assert client.get("/searches").status_code == 429
    assert client.post("/search", json=BODY, headers=own(client)).status_code == 429
    assert sign_in(client, key).status_code == 429


def test_so_many_wrong_keys_from_an_address_are_answered(sqlite_database: Database, tmp_path: Path) -> None:
    known, new = (make_key(sqlite_database, Role.READ, name) for name in ("known", "new"))
    client = server(sqlite_database, tmp_path, refused_keys_per_minute=3)
    assert client.get("/searches", headers=bearer(known)).status_code == 200
    wrong = [client.get("/searches", headers=bearer("qr_wrong")) for _ in range(2)]
    wrong.append(sign_in(client, "qr_wrong"))

    refused = client.get("/searches", headers=bearer("qr_wrong"))

    assert [each.status_code for each in wrong] == [401] * 3
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert sign_in(client, "qr_wrong").status_code == 429
    # Nobody learns by trying on whether a key is right, and nobody else is shut out.
    assert client.get("/searches", headers=bearer(new)).status_code == 429
    assert sign_in(client, new).status_code == 429
    assert client.get("/searches", headers=bearer(known)).status_code == 200
    assert from_another(client, "192.0.2.2").get("/searches", headers=bearer(new)).status_code == 200


def test_requests_without_a_key_are_no_attempts(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path, refused_keys_per_minute=1)

    assert {client.get("/searches").status_code for _ in range(5)} == {401}
