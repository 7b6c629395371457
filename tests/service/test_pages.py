"""Pages as the server makes them, on both databases; ``tests/browser`` shows them in a browser."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from callers import bearer, make_key, server
from fastapi.testclient import TestClient

from searcher import workers
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.request import SearchRequest
from searcher.worker_settings import WorkerSettings
from service import durations
from service.access.roles import Role
from service.app import create_app
from service.routes.pages import errors, rendering
from service.settings import Settings

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BODY = {"task": "digits", "parameter_budget": 20_000}


@pytest.fixture
def client(database: Database, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path, database_url=None)
    with TestClient(create_app(settings, database), base_url="http://127.0.0.1", headers=BROWSER) as client:
        yield client


def start_worker(database: Database, tmp_path: Path) -> None:
    """Lets the pool know of a worker that has nothing to do."""
    with database.write() as session:
        workers.register(session, "worker", WorkerSettings(data_root=tmp_path, artifacts=Artifacts(tmp_path)))


@pytest.mark.parametrize("path", ["/ui/searches/999", "/?search=999", "/nowhere", "/searches/999"])
def test_who_asks_for_a_page_is_told_on_a_page_what_is_wrong(client: TestClient, path: str) -> None:
    page = client.get(path)
    document = client.get(path, headers={"Accept": "*/*"})

    assert (page.status_code, document.status_code) == (404, 404)
    assert page.headers["content-type"].startswith("text/html")
    assert document.headers["content-type"] == "application/problem+json"
    assert errors.for_people(document.json()["detail"]) in page.text
    assert '<a href="/">Go to the searches</a>' in page.text


def test_what_was_sent_is_escaped_on_the_page_that_refuses_it(client: TestClient) -> None:
    page = client.get("/leaderboard", params={"task": "<script>alert(1)</script>"})

    assert page.status_code == 422
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


def test_a_search_that_no_worker_will_train_says_how_to_start_one(
    client: TestClient, database: Database, tmp_path: Path
) -> None:
    search = client.post("/search", json=BODY).json()
    told = [client.get(path).text for path in ("/", search["links"]["page"], "/ui/workers")]
    start_worker(database, tmp_path)
    then = [client.get(path).text for path in ("/", search["links"]["page"], "/ui/workers")]

    assert all("No worker runs" in page and "quantrank worker" in page for page in told)
    assert not any("No worker runs" in page for page in then)


def test_older_searches_are_a_page_further(client: TestClient) -> None:
    ids = [client.post("/search", json={**BODY, "architectures": ["basic-L8-D3"]}).json()["id"] for _ in range(27)]

    first = client.get("/").text
    second = client.get(f"/?before={ids[2]}").text

    assert f'href="/?before={ids[2]}"' in first
    assert f'id="search-{ids[2]}"' in first
    assert f'id="search-{ids[1]}"' not in first
    assert f'id="search-{ids[1]}"' in second
    assert 'rel="next"' not in second


def test_searches_are_listed_by_task_and_status_and_links_keep_both(client: TestClient) -> None:
    tasks = ["digits", "rings"] * 2 + ["rings"] * 25
    ids = [client.post("/search", json=BODY | {"task": task}).json()["id"] for task in tasks]
    of_rings = [number for number, task in zip(ids, tasks, strict=True) if task == "rings"][::-1]
    for number in ids[:4]:
        client.post(f"/searches/{number}/cancel")

    def listed(address: str) -> list[int]:
        return [int(number) for number in re.findall(r'id="search-(\d+)"', client.get(address).text)]

    assert listed("/?task=rings&status=") == of_rings[:25]
    assert listed("/?status=cancelled") == ids[3::-1]
    assert listed("/?task=digits&status=cancelled") == [ids[2], ids[0]]
    (older,) = re.findall(r'href="([^"]*)" rel="next"', client.get("/?task=rings").text)
    assert listed(older.replace("&amp;", "&")) == of_rings[25:]
    assert "No search passes the filters" in client.get("/?task=digits&status=finished").text
    assert client.get("/?status=lost").status_code == 422


def test_numbers_are_written_as_their_examples_say() -> None:
    for module, examples in ((rendering, 4), (durations, 1), (errors, 1)):
        found = doctest.testmod(module)
        assert (found.failed, found.attempted) == (0, examples)


def test_the_form_of_a_new_search_offers_what_suits_the_task(client: TestClient) -> None:
    of_digits, of_rings = (client.get("/ui/searches/new", params={"task": task}).text for task in ("digits", "rings"))

    assert re.findall(r'name="blocks" value="([^"]+)"[^>]* checked', of_digits) == ["basic", "preact", "depthwise"]
    assert re.findall(r'name="blocks" value="([^"]+)"', of_rings) == ["plain", "residual"]
    assert "Its data are not on this host: " in client.get("/ui/searches/new?task=cifar10").text
    assert client.get("/ui/searches/new?task=nothing").status_code == 422


def test_every_field_of_a_search_request_is_in_the_form_and_has_a_place_for_its_errors(client: TestClient) -> None:
    page = client.get("/ui/searches/new").text

    for name in SearchRequest.model_fields:
        assert f'name="{name}"' in page
        assert f'id="error-{name}" role="alert"' in page


def test_who_may_only_look_is_not_offered_to_start_a_search(database: Database, tmp_path: Path) -> None:
    for role, offered in ((Role.READ, False), (Role.SUBMIT, True)):
        page = server(database, tmp_path).get("/ui/searches/new", headers=bearer(make_key(database, role))).text
        assert ("Start the search" in page) is offered
