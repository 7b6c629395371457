"""Signing in to the pages with a key: the cookie, what it is good for, and when it is not any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from callers import BODY, ELSEWHERE, LOCAL, bearer, make_key, own, server, sign_in
from sqlalchemy import text, update

from searcher.api_keys import list_keys, revoke_key
from searcher.database import Database
from searcher.tables import SignIn
from service.access.return_paths import checked_return_path
from service.access.roles import Role

HTTPS = "https://quantrank.example.org"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def test_a_browser_is_led_to_the_form_and_back_to_the_page_it_asked_for(database: Database, tmp_path: Path) -> None:
    key, client = make_key(database, Role.SUBMIT), server(database, tmp_path)

    led = client.get("/?search=7&rung=0", headers=BROWSER, follow_redirects=False)
    form = client.get(led.headers["location"])
    signed_in = sign_in(client, key, "/?search=7&rung=0")

    assert led.status_code == 303
    assert led.headers["location"] == "/sign-in?next=%2F%3Fsearch%3D7%26rung%3D0"
    assert 'value="/?search=7&amp;rung=0"' in form.text
    assert signed_in.status_code == 303
    assert signed_in.headers["location"] == "/?search=7&rung=0"
    assert "Sign out" in client.get("/").text
    assert client.get("/searches").status_code == 200


def test_scripts_and_programs_are_told_the_problem_and_not_led_to_a_form(
    sqlite_database: Database, tmp_path: Path
) -> None:
    client = server(sqlite_database, tmp_path)

    for headers in ({"Accept": "application/json"}, {"Accept": "text/event-stream"}, BROWSER | bearer("qr_wrong")):
        assert client.get("/", headers=headers, follow_redirects=False).status_code == 401


@pytest.mark.parametrize(("url", "secure"), [(ELSEWHERE, False), (HTTPS, True)])
def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(
    sqlite_database: Database, tmp_path: Path, url: str, secure: bool
) -> None:
    client = server(sqlite_database, tmp_path, url)

    cookie = sign_in(client, make_key(sqlite_database, Role.READ)).headers["set-cookie"]

    name, *attributes = cookie.split("; ")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(attributes)
    assert ("Secure" in attributes) is secure
    assert name.startswith("__Host-") is secure
    assert not any(each.startswith("Domain") for each in attributes)


def test_behind_a_proxy_that_speaks_tls_the_cookie_is_secure_too(sqlite_database: Database, tmp_path: Path) -> None:
    client, key = server(sqlite_database, tmp_path), make_key(sqlite_database, Role.READ)

    cookie = sign_in(client, key, Origin=HTTPS).headers["set-cookie"]

    assert "Secure" in cookie
    sent = {"Cookie": cookie.split(";")[0]}
    assert client.get("/searches", headers=sent).status_code == 200


def test_the_database_knows_a_cookie_by_its_digest_alone(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path)

    sign_in(client, make_key(sqlite_database, Role.READ))

    with sqlite_database.read() as session:
        stored = repr(session.execute(text("SELECT * FROM sign_ins")).all())
    (token,) = client.cookies.values()
    assert token not in stored


def test_a_wrong_or_a_revoked_key_signs_nobody_in(sqlite_database: Database, tmp_path: Path) -> None:
    client, revoked = server(sqlite_database, tmp_path), make_key(sqlite_database, Role.ADMIN)
    with sqlite_database.write() as session:
        revoke_key(session, list_keys(session)[0].id)

    for key in (revoked, "qr_wrong", "", "é", "x" * 9000):
        refused = sign_in(client, key, "/?search=3")

        assert refused.status_code == 401
        assert "The key is not accepted." in refused.text
        assert "set-cookie" not in refused.headers
        assert not key or key not in refused.text


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "http://evil.example.org"},
        {"Origin": "null"},
        {"Origin": f"{ELSEWHERE}:8080"},
        {"Sec-Fetch-Site": "same-site", "Origin": ELSEWHERE},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "none"},
        {},
    ],
)
def test_what_no_page_of_this_server_asked_changes_nothing_by_cookie(
    sqlite_database: Database, tmp_path: Path, sent: dict[str, str]
) -> None:
    client, key = server(sqlite_database, tmp_path), make_key(sqlite_database, Role.SUBMIT)
    sign_in(client, key)
    search = client.post("/search", json=BODY, headers=own(client)).json()
    links = search["links"]

    for method, path in [
        ("POST", links["cancel"]),
        ("POST", "/search"),
        ("DELETE", links["self"]),
        ("POST", "/sign-out"),
    ]:
        refused = client.request(method, path, headers=sent)
        assert refused.status_code == 403, (method, path)

    assert search["posted_by"] == "somebody"
    assert client.get(links["self"]).json()["status"] == "running"
    assert len(client.get("/searches").json()["searches"]) == 1


def test_no_other_site_signs_a_browser_in(sqlite_database: Database, tmp_path: Path) -> None:
    client, key = server(sqlite_database, tmp_path), make_key(sqlite_database, Role.SUBMIT)

    for headers in ({"Origin": "http://evil.example.org"}, {"Sec-Fetch-Site": "cross-site"}):
        assert sign_in(client, key, **headers).status_code == 403
    unsaid = client.post("/sign-in", data={"key": key})

    assert unsaid.status_code == 403
    assert not client.cookies


def test_who_signs_out_is_out_with_every_copy_of_the_cookie(database: Database, tmp_path: Path) -> None:
    client, other = (server(database, tmp_path) for _ in range(2))
    key = make_key(database, Role.READ)
    sign_in(client, key)
    sign_in(other, key)
    copied = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}

    out = client.post("/sign-out", headers=own(client), follow_redirects=False)

    assert (out.status_code, out.headers["location"]) == (303, "/sign-in")
    assert not client.cookies
    assert server(database, tmp_path).get("/searches", headers=copied).status_code == 401
    assert other.get("/searches").status_code == 200


def test_revoking_the_key_or_the_end_of_its_time_ends_a_sign_in(database: Database, tmp_path: Path) -> None:
    for end in ("revoked", "over"):
        client = server(database, tmp_path)
        sign_in(client, make_key(database, Role.READ))
        assert client.get("/searches").status_code == 200

        with database.write() as session:
            if end == "revoked":
                revoke_key(session, list_keys(session)[-1].id)
            else:
                session.execute(update(SignIn).values(expires_at=SignIn.created_at))

        assert client.get("/searches").status_code == 401, end
        assert client.get("/", headers=BROWSER, follow_redirects=False).status_code == 303


def test_a_sign_in_is_under_a_token_that_was_never_seen_before(sqlite_database: Database, tmp_path: Path) -> None:
    client, key = server(sqlite_database, tmp_path), make_key(sqlite_database, Role.READ)
    client.cookies.set("quantrank_sign_in", "planted")

    cookies = [sign_in(client, key).headers["set-cookie"].split(";")[0] for _ in range(2)]

    assert len({*cookies, "quantrank_sign_in=planted"}) == 3
    first = {"Cookie": cookies[0]}
    assert (
        server(sqlite_database, tmp_path).get("/searches", headers=first).status_code == 401
    )  # replaced by the second


def test_over_https_no_cookie_counts_that_a_neighbour_could_have_set(sqlite_database: Database, tmp_path: Path) -> None:
    over_http, over_https = server(sqlite_database, tmp_path), server(sqlite_database, tmp_path, HTTPS)
    cookie = sign_in(over_http, make_key(sqlite_database, Role.READ)).headers["set-cookie"].split(";")[0]

    assert over_https.get("/searches", headers={"Cookie": cookie}).status_code == 401


def test_a_role_stays_what_it_is_in_a_browser(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path)
    sign_in(client, make_key(sqlite_database, Role.READ))

    assert client.get("/").status_code == 200
    assert client.post("/search", json=BODY, headers=own(client)).status_code == 403
    assert client.post("/sign-out", headers=own(client)).url.path == "/sign-in"


def test_on_this_host_nobody_has_to_sign_in(sqlite_database: Database, tmp_path: Path) -> None:
    client = server(sqlite_database, tmp_path, LOCAL, on_loopback=True)
    client.cookies.set("quantrank_sign_in", "of another server on another port")

    shown = client.get("/", headers=BROWSER)

    assert shown.status_code == 200
    assert "Sign out" not in shown.text


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example.org/",
        "//evil.example.org",
        "///evil.example.org",
        "/\\evil.example.org",
        "\\/evil.example.org",
        "/\t/evil.example.org",
        "javascript:alert(1)",
        " /",
        "evil",
        "",
        "/a\r\nSet-Cookie: b=c",
        "/" + "a" * 2000,
    ],
)
def test_no_address_of_another_site_is_returned_to(path: str) -> None:
    assert checked_return_path(path) == "/"


@pytest.mark.parametrize("path", ["/", "/?search=3", "/ui/leaderboard?task=digits&block=basic#best", "/a%20b?c=%2F"])
def test_addresses_of_this_server_are(path: str) -> None:
    assert checked_return_path(path) == path
