"""From a budget to a network that runs, by the pages alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from browsing import serving

SHORT = '{"float_part": {"schedule": {"epochs": 3}}, "retraining": {"schedule": {"epochs": 2}}}'


def shown(page: Any) -> list[str]:
    names: list[str] = page.locator("#board tbody th a").all_inner_texts()
    return names


def test_a_search_is_posted_watched_and_its_winner_downloaded_and_run(page: Any, tmp_path: Path) -> None:
    with serving(tmp_path / "home", workers=1) as url:
        page.goto(url)
        page.get_by_role("heading", name="No search yet").wait_for()
        page.get_by_role("link", name="New search", exact=True).last.click()

        # The form tells what would be trained before anything is posted.
        page.get_by_label("Bit widths").fill("W2A2")
        page.get_by_label("Changes to the recipe").fill(SHORT)
        page.get_by_label("Or exactly these architectures").fill("basic-L8-D3, basic-L8-D4, preact-L8-D3")
        page.locator("#told dd").first.filter(has_text=re.compile("^3$")).wait_for()
        assert page.locator("#listed tbody tr").count() == 3
        page.get_by_role("button", name="Start the search").click()

        # The page is not loaded again from here on; what was typed meanwhile stays, and so does the focus.
        page.wait_for_url(re.compile("/ui/searches/1"))
        page.get_by_label("Name").fill("basic")
        page.locator("#progress .status.finished").wait_for(timeout=120_000)
        page.locator("#board tbody tr").nth(1).wait_for()
        assert page.evaluate("document.activeElement.name") == "name"
        assert all(name.startswith("basic") for name in shown(page))
        assert page.locator("#progress progress").evaluate("bar => bar.value === bar.max")
        for chart in ("pareto", "slopes", "curves"):
            page.locator(f"#{chart} .point").first.wait_for()
        assert page.locator(".map td.cell a").count() == 3

        # Sorting and filters are in the address: whoever is given it sees the same.
        page.get_by_role("link", name="Parameters", exact=True).click()
        page.locator("th[aria-sort=ascending]", has_text="Parameters").wait_for()
        assert shown(page) == ["basic-L8-D3", "basic-L8-D4"]
        page.reload()
        assert shown(page) == ["basic-L8-D3", "basic-L8-D4"]
        assert page.get_by_label("Name").input_value() == "basic"
        page.get_by_role("link", name="Show all").click()
        page.locator("#board tbody tr").nth(2).wait_for()

        # The five lines of the architecture's page run the network that it offers.
        page.get_by_role("link", name="basic-L8-D4").first.click()
        page.get_by_role("heading", name="basic-L8-D4 on digits, seed 0").wait_for()
        page.get_by_role("button", name="Measure").click()
        page.locator("#noise-told", has_text="Measured on 200 test examples").wait_for(timeout=60_000)
        page.locator("#noise .point").first.wait_for()
        figures = [page.locator(f"[data-layer=classifier] {kind}").inner_text() for kind in (".sqnr", ".gain")]
        assert all(re.fullmatch(r"-?\d+\.\d+", figure) for figure in figures), figures
        lines = page.locator("#loading").inner_text()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download safetensors").click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    assert len(lines.strip().splitlines()) == 5
    ran = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"tensor\(\[\d\]\)\n", ran.stdout)
