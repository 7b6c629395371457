"""Takes the pictures of all pages in docs/screenshots, from a real run: `make screenshots`, some minutes on two cores.

With `--url URL` they are taken of a server that runs already, of its newest finished search.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent / "screenshots"
SEARCH = {
    "task": "digits",
    "parameter_budget": 20_000,
    "depths": [8, 14, 20, 26, 11, 29],
    "seeds": [0, 1],
}
WAITING = {"task": "digits", "model_bytes_budget": 8192, "bit_widths": ["W2A2", "W4A4"], "rungs": [0.2]}
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
MOST_BYTES = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server that runs already")
    url = parser.parse_args().url
    FOLDER.mkdir(exist_ok=True)
    if url is not None:
        take_all(url, newest_finished(url))
        return
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as served:
        number = httpx.post(f"{served}/search", json=SEARCH).raise_for_status().json()["id"]
        while (search := httpx.get(f"{served}/searches/{number}").json())["status"] == "running":
            print(f"\r{search['progress']['epochs_done']} of {search['progress']['epochs_total']} epochs", end="")
            time.sleep(2)
        httpx.post(f"{served}/search", json=WAITING).raise_for_status()
        take_all(served, number)


@contextmanager
def serving(home: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--workers", str(os.cpu_count() or 1)]
    environment = {**os.environ, "QUANTRANK_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split("ready at ")[1].strip()
        server.terminate()


def newest_finished(url: str) -> int:
    searches = httpx.get(f"{url}/searches", params={"status": "finished", "limit": 1}).json()["searches"]
    return int(searches[0]["id"])


def take_all(url: str, search: int) -> None:
    board = httpx.get(f"{url}/searches/{search}/leaderboard").json()
    numbers = [entry["evaluations"][0] for entry in board["entries"]]
    page_of_search = f"/ui/searches/{search}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        wide = browser.new_page(viewport=WIDE, color_scheme="light")
        wide.goto(f"{url}{page_of_search}")
        everywhere = wide.get_by_role("link", name="by this recipe").get_attribute("href")
        take(wide, "search", f"{url}{page_of_search}")
        take(wide, "search-charts", f"{url}{page_of_search}", of="#charts")
        take(wide, "search-maps", f"{url}{page_of_search}", of="#maps")
        take(wide, "searches", f"{url}/")
        take(wide, "new-search", f"{url}/ui/searches/new?parameter_budget=15000")
        take(wide, "architecture", f"{url}/ui/evaluations/{numbers[0]}", press="#measure")
        take(wide, "compare", f"{url}/ui/compare?" + "&".join(f"evaluations={each}" for each in numbers[:3]))
        take(wide, "leaderboard", f"{url}{everywhere}")
        take(wide, "workers", f"{url}/ui/workers")
        take(wide, "error", f"{url}/ui/searches/999999")
        dark = browser.new_page(viewport=WIDE, color_scheme="dark")
        take(dark, "search-dark", f"{url}{page_of_search}")
        narrow = browser.new_page(viewport=NARROW, color_scheme="light")
        take(narrow, "search-narrow", f"{url}{page_of_search}")
        browser.close()


def take(page: Any, name: str, address: str, of: str | None = None, press: str | None = None) -> None:
    """One picture: of what is in view, or of one part of the page."""
    page.goto(address)
    if "/ui/searches/" in address or "/ui/compare" in address or "/ui/evaluations" in address:
        page.wait_for_load_state("networkidle")
    if press is not None:
        page.click(press)
        page.locator("#noise .main-svg").first.wait_for(timeout=120_000)
    taken = page.locator(of).screenshot() if of else page.screenshot(full_page=press is not None)
    # 256 colours are enough for pages, and a fraction of the size.
    picture = Image.open(io.BytesIO(taken)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{path} has {size} bytes"
    print(f"\n{path.name}: {size // 1024} KiB", end="")


if __name__ == "__main__":
    main()
