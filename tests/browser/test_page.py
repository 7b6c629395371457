"""The page in a real Chromium: it shows a search as it runs. Skipped where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Without these Chromium looks for servers of its maker's at every start.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", "0"],
        env={**inherited, "QUANTRANK_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    yield server.stdout.readline().split("ready at ")[1].strip()
    server.terminate()
    server.wait(30)


def test_the_leaderboard_fills_while_the_search_runs(url: str) -> None:
    body = {
        "task": "digits",
        "parameter_budget": 5000,
        "blocks": ["basic", "preact"],
        "depths": [8],
        "recipe": {"float_part": {"schedule": {"epochs": 3}}, "retraining": {"schedule": {"epochs": 2}}},
    }
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        page.goto(url)
        assert "No search yet" in page.inner_text("main")
        search = httpx.post(f"{url}/search", json=body).json()
        page.goto(f"{url}{search['links']['page']}")
        assert page.locator("#progress .status").inner_text() == "running"
        # The page is not loaded again: what appears from here on came by events.
        page.wait_for_selector("#progress .status.finished", timeout=90_000)

        architectures = page.locator("#board tbody a").all_inner_texts()
        ranks = page.locator("#board tbody tr td:first-child").all_inner_texts()
        progress = page.locator("#progress progress")
        assert sorted(name.split("-")[0] for name in architectures) == ["basic", "preact"]
        assert ranks[0].split()[0] == "1"
        assert progress.get_attribute("value") == progress.get_attribute("max")
        assert complaints == []
        browser.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_never_scrolls_sideways(url: str, width: int) -> None:
    httpx.post(f"{url}/search", json={"task": "digits", "parameter_budget": 20_000})
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": width, "height": 800})

        page.goto(url)

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
