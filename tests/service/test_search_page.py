"""The page of one search, and what its charts are drawn from."""

from __future__ import annotations

import re
from typing import Any

from fastapi.testclient import TestClient
from playing import play_accuracies
from sqlalchemy import select

from searcher import leases, results, tables
from searcher.database import Database
from searcher.proposals import propose
from service.schemas import charts

NAMES = ["basic-L8-D3", "basic-L8-D4", "preact-L8-D3", "preact-L14-D3"]
ACCURACIES = {"float": (97.0, 98.0, 96.0, 99.0), "W2A2": (93.0, 90.0, 90.0, 80.0)}
BODY = {"task": "digits", "parameter_budget": 20_000, "architectures": NAMES, "bit_widths": ["W2A2"]}


def finished_search(client: TestClient, database: Database) -> Any:
    search = client.post("/search", json=BODY).json()
    by_bits = {bits: dict(zip(NAMES, values, strict=True)) for bits, values in ACCURACIES.items()}
    play_accuracies(database, search, by_bits)
    return search


def shown_rows(page: str) -> list[str]:
    return re.findall(r'<tr id="row-([^"]+)"', page)


def test_the_address_says_which_rows_are_shown_in_which_order(client: TestClient, database: Database) -> None:
    path = finished_search(client, database)["links"]["page"]
    expected = {
        "": [0, 2, 1, 3],  # of equal accuracies the smaller network comes first
        "?sort=-rank": [3, 2, 1, 0],
        "?sort=-float": [3, 1, 0, 2],
        "?sort=float": [2, 0, 1, 3],
        "?block=basic": [0, 1],
        "?block=basic&block=preact&name=l14": [3],
        "?max_parameters=3000&sort=parameters": [0, 2],
        "?rows=2": [0, 2],
        "?sort=nonsense": [0, 2, 1, 3],
    }

    shown = {query: [NAMES.index(name) for name in shown_rows(client.get(path + query).text)] for query in expected}

    assert shown == expected


def test_the_table_marks_the_best_of_both_orders_and_ties(client: TestClient, database: Database) -> None:
    page = client.get(finished_search(client, database)["links"]["page"]).text
    rows = dict(zip(shown_rows(page), page.split('<tr id="row-')[1:], strict=True))

    assert [name for name, row in rows.items() if "best W2A2" in row] == ["basic-L8-D3"]
    assert [name for name, row in rows.items() if "best float" in row] == ["preact-L14-D3"]
    assert [name for name, row in rows.items() if "share a rank" in row] == ["preact-L8-D3", "basic-L8-D4"]
    assert "at W2A2 rank 4" in page


def test_what_is_sorted_and_filtered_by_stays_in_the_tables_links(client: TestClient, database: Database) -> None:
    path = finished_search(client, database)["links"]["page"]

    page = client.get(f"{path}?sort=parameters&block=basic").text

    assert 'aria-sort="ascending"><a href="?sort=-parameters&amp;block=basic"' in page
    assert 'href="?sort=-float&amp;block=basic"' in page
    assert 'value="basic" checked' in page


def test_nothing_passes_the_filters_and_the_page_says_so(client: TestClient, database: Database) -> None:
    path = finished_search(client, database)["links"]["page"]

    page = client.get(path, params={"name": '"><script>'}).text

    assert "No architecture of 4 passes the filters" in page
    assert "<script>" not in page.replace("<script src", "").replace('<script type="module"', "")


def test_the_map_has_a_cell_for_every_candidate_and_says_how_far_it_is(client: TestClient, database: Database) -> None:
    search = client.post("/search", json=BODY).json()
    with database.write() as session:
        posted = session.get_one(tables.Search, search["id"])
        candidates = session.scalars(select(tables.Candidate).order_by(tables.Candidate.id)).all()
        for candidate in candidates[:3]:
            propose(session, posted, candidate)
        failing = leases.claim(session, "worker", 1000.0)
        assert failing is not None
        results.fail_evaluation(session, failing, "<out of memory>")
        leases.claim(session, "worker", 1000.0)

    page = client.get(search["links"]["page"]).text

    assert re.findall(r'class="cell (\w+)"', page) == ["failed", "running", "queued", "pending"]
    assert "basic-L8-D3: failed, &lt;out of memory&gt;" in page


def test_charts_know_costs_budgets_and_the_front(client: TestClient, database: Database) -> None:
    search = finished_search(client, database)

    drawn = client.get(f"/ui/searches/{search['id']}/charts").json()
    curves = client.get(f"/ui/searches/{search['id']}/curves").json()

    assert drawn["budgets"] == {"parameters": 20_000}
    assert [point["architecture"] for point in drawn["points"]] == [NAMES[index] for index in (0, 2, 1, 3)]
    best = drawn["points"][0]
    assert best["costs"].keys() == {"parameters", "model_bytes", "bit_operations", "macs"}
    assert [point["on_front"]["parameters"] for point in drawn["points"]] == [True, False, False, False]
    assert best["low"] < best["accuracy"] < best["high"]
    assert curves["boundary"] == search["recipe"]["settings"]["float_part"]["schedule"]["epochs"]
    assert len(curves["curves"]) == 4


def test_charts_of_a_search_without_results_are_empty(client: TestClient) -> None:
    search = client.post("/search", json=BODY).json()

    assert client.get(f"/ui/searches/{search['id']}/charts").json()["points"] == []
    assert client.get(f"/ui/searches/{search['id']}/curves").json()["curves"] == []


def test_pages_load_scripts_and_styles_of_this_server_alone(client: TestClient, database: Database) -> None:
    page = client.get(finished_search(client, database)["links"]["page"]).text
    loaded = re.findall(r'(?:src|<link rel="\w+" href)="([^"]+)"', page)
    plotly = client.get(next(path for path in loaded if "plotly" in path))

    assert all(path.startswith("/static/") for path in loaded)
    assert "style=" not in page
    assert b"plotly.js" in plotly.content[:200]
    assert "immutable" in plotly.headers["cache-control"]
    assert plotly.headers["content-encoding"] == "gzip"


def test_a_front_is_what_nothing_as_cheap_betters() -> None:
    assert charts._front([10, 20, 20, 30], [90.0, 92.0, 91.0, 92.0]) == [True, True, False, False]
    assert charts._front([10, 10], [90.0, 90.0]) == [True, False]
