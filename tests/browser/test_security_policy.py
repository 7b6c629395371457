"""Every page in a real Chromium, signed in by its form: nothing on it breaks the policy that it is served with."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import httpx
import pytest
import uvicorn

from searcher.api_keys import add_key
from searcher.database import Database
from service.access.roles import Role
from service.access.secrets import digest_of, hint_of, new_key
from service.app import create_app
from service.settings import Settings

START = ["/", "/docs", "/ui/leaderboard", "/ui/compare", "/ui/workers", "/ui/searches/new"]
"""Where there is no such page, the one that says so is looked at. More are found by following links."""


@pytest.fixture
def url(sqlite_database: Database, tmp_path: Path) -> Iterator[str]:
    """A server that asks for keys."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Settings(home=tmp_path, database_url=None), sqlite_database, on_loopback=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_nothing_on_any_page_breaks_the_policy_or_comes_from_elsewhere(
    url: str, sqlite_database: Database, browser: Any
) -> None:
    key = new_key()
    with sqlite_database.write() as session:
        add_key(session, "ada", Role.SUBMIT, digest_of(key), hint_of(key))
    body = {"task": "digits", "parameter_budget": 5000, "depths": [8]}
    posted = httpx.post(f"{url}/search", json=body, headers={"Authorization": f"Bearer {key}"}).json()
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{url}{posted['links']['page']}")
    assert urlsplit(page.url).path == "/sign-in"
    page.fill("#key", key)
    page.click("main button")
    assert page.url == f"{url}{posted['links']['page']}"

    waiting, seen = [f"{url}{path}" for path in START], set[str]()
    while waiting:
        address = waiting.pop()
        seen.add(address)
        answer = page.goto(address)
        assert answer is not None
        complaints = [each for each in complaints if not (answer.status == 404 and "404" in each)]
        if "text/html" not in answer.headers["content-type"]:
            continue
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        found = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        here = {urldefrag(each).url for each in found if each.startswith(f"{url}/")}
        waiting += sorted(here - seen - set(waiting))
    page.goto(f"{url}/docs")
    page.wait_for_selector(".opblock-post")  # Swagger UI has read the description and shows it
    page.goto(url)
    page.get_by_role("button", name="Sign out").click()
    assert urlsplit(page.url).path == "/sign-in"
    page.goto(url)
    assert urlsplit(page.url).path == "/sign-in"
    context.close()

    assert complaints == []
    assert {urlsplit(each).netloc for each in asked if not each.startswith(("data:", "blob:"))} == {
        urlsplit(url).netloc
    }


def test_what_somebody_smuggles_into_a_page_does_not_run(url: str, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}/sign-in")
    assert page.locator("form").count() == 1

    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.smuggled = true";
            document.body.append(script);
            const image = document.createElement("div");
            image.innerHTML = "<img src=x onerror='window.smuggled = true'>";
            document.body.append(image);
            return new Promise(resolve => image.firstChild.addEventListener("error", resolve));
        }"""
    )

    assert page.evaluate("window.smuggled") is None
    context.close()
