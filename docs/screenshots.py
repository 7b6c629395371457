"""Takes the README's picture of the leaderboard: python docs/screenshots.py http://127.0.0.1:8000/ui/searches/1"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "leaderboard.png"

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1100, "height": 592}, color_scheme="light")
    page.goto(sys.argv[1])
    page.screenshot(path=PICTURE)
    browser.close()
print(PICTURE)
