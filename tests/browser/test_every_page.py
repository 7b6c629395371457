"""Every page, wide and light, narrow and dark: nothing that axe finds, and nothing that is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import NARROW, WIDE, serving
from sqlalchemy import select

from searcher import leases, results, tables
from searcher.database import Database
from searcher.plan import plan
from searcher.proposals import propose
from searcher.request import SearchRequest
from searcher.schema import upgrade
from searcher.searches import create_search
from tests.service.playing import play_accuracies

NAMES = ["basic-L8-D3", "basic-L8-D4", "preact-L8-D3"]
ASKED = {"task": "digits", "parameter_budget": 20_000, "architectures": NAMES, "bit_widths": ["W2A2", "W2AF"]}
PAGES = (
    "/",
    "/ui/searches/new",
    "/ui/searches/1",
    "/ui/searches/1?name=nothing",
    "/ui/searches/2",
    "/ui/evaluations/1",
    "/ui/compare?evaluations=1&evaluations=2",
    "/ui/compare",
    "/ui/leaderboard?task=digits&bit_widths=W2A2",
    "/ui/leaderboard?task=rings",
    "/ui/workers",
    "/ui/searches/99",
    "/sign-in",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without workers: one search is finished, the other has an evaluation that failed and one that runs."""
    home = tmp_path_factory.mktemp("home")
    database = Database(f"sqlite:///{home / 'quantrank.db'}")
    upgrade(database)
    for names in (NAMES, ["preact-L14-D3", "preact-L14-D4", "basic-L14-D3"]):
        with database.write() as session:
            number = create_search(session, plan(SearchRequest(**ASKED | {"architectures": names}))).id
        if names is NAMES:
            by_bits = {bits: dict(zip(names, (93.0, 92.0, 93.0), strict=True)) for bits in ("float", "W2A2", "W2AF")}
            play_accuracies(database, {"id": number}, by_bits)
    with database.write() as session:
        posted = session.get_one(tables.Search, number)
        for candidate in session.scalars(select(tables.Candidate).filter_by(search_id=number)).all()[:2]:
            propose(session, posted, candidate)
        failing = leases.claim(session, "worker", 1000.0)
        assert failing is not None
        results.fail_evaluation(session, failing, "out of memory")
        leases.claim(session, "worker", 1000.0)
    database.dispose()
    with serving(home, workers=0) as served:
        yield served


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_fits(url: str, page: Any, path: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    answer = page.goto(f"{url}{path}")
    if answer.status == 404:
        page.complaints.clear()  # Chromium has told so
    page.wait_for_load_state("networkidle") if "searches/2" not in path else page.locator("#charts p").first.wait_for()
    for size, scheme in ((WIDE, "light"), (NARROW, "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]

        assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_the_keyboard_reaches_the_content_first_and_sorts_without_losing_its_place(url: str, page: Any) -> None:
    page.goto(f"{url}/ui/searches/1")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    heading = page.get_by_role("link", name="Drop", exact=True)
    heading.focus()
    page.keyboard.press("Enter")
    page.locator("th[aria-sort=ascending]", has_text="Drop").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Drop"


def test_an_error_of_the_form_stands_at_its_field(url: str, page: Any) -> None:
    page.goto(f"{url}/ui/searches/new")

    page.get_by_label("Parameters").fill("many")
    page.locator("#error-parameter_budget", has_text="many").wait_for()

    assert page.get_by_label("Parameters").get_attribute("aria-invalid") == "true"
    page.get_by_label("Parameters").fill("20000")
    page.locator("#listed tbody tr").first.wait_for()
    assert page.locator("#error-parameter_budget").inner_text() == ""
    page.get_by_label("Changes to the recipe").fill('{"float_part": {"colour": 1}}')
    page.locator("#error-recipe", has_text="is not a setting").wait_for()
    page.complaints.clear()  # Chromium tells of every answer 422


def test_a_cancelled_search_says_so_at_once(url: str, page: Any) -> None:
    page.goto(f"{url}/ui/searches/2")
    page.on("dialog", lambda dialog: dialog.accept())

    page.get_by_role("button", name="Cancel").click()

    page.locator("#progress .status.cancelled").wait_for()
    page.locator("#board", has_text="was cancelled without a W2A2 result").wait_for()
    assert page.get_by_role("button", name="Cancel").count() == 0


def test_a_button_cannot_be_clicked_before_its_script_listens(url: str, page: Any) -> None:
    held: list[Any] = []
    page.route("**/static/new_search.js", lambda route: held.append(route))
    page.goto(f"{url}/ui/searches/new", wait_until="commit")
    start = page.get_by_role("button", name="Start the search")
    start.wait_for()
    assert start.is_disabled()

    while not held:
        page.wait_for_timeout(10)
    held[0].continue_()

    start.click(trial=True)  # which waits until it is enabled
