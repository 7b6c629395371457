"""The page of an architecture, comparing several, and the leaderboard over all searches."""

from __future__ import annotations

import html
import re
from typing import Any

from fastapi.testclient import TestClient
from playing import play_accuracies, rows
from sqlalchemy import select

from searcher import leases, results, tables
from searcher.database import Database
from searcher.proposals import propose

NAMES = ["basic-L8-D3", "basic-L8-D4", "preact-L8-D3"]
ACCURACIES = {"float": (97.0, 98.0, 96.0), "W2A2": (93.0, 90.0, 91.0)}
BODY = {"task": "digits", "parameter_budget": 20_000, "architectures": NAMES, "bit_widths": ["W2A2"]}


def finished_search(client: TestClient, database: Database, **fields: Any) -> Any:
    search = client.post("/search", json=BODY | fields).json()
    by_bits = {bits: dict(zip(NAMES, values, strict=True)) for bits, values in ACCURACIES.items()}
    play_accuracies(database, search, by_bits)
    return search


def numbers(database: Database, architecture: str) -> list[int]:
    return [each.id for each in rows(database, tables.Evaluation, architecture=architecture)]


def test_an_architectures_page_lists_its_weight_layers_with_their_bits(client: TestClient, database: Database) -> None:
    finished_search(client, database)
    (number,) = numbers(database, "basic-L8-D3")

    page = client.get(f"/ui/evaluations/{number}").text
    layers = re.findall(r'<tr data-layer="([^"]+)">(.*?)</tr>', page)
    cells = [[html.unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", row)] for _, row in layers]

    assert "basic-L8-D3 on digits, seed 0" in page
    # 8 on the main path, and two projections where the shape changes
    assert len([name for name, _ in layers if "shortcut" not in name]) == 8
    assert [cells[0][3], cells[1][3], cells[-1][3]] == ["8", "2", "8"]  # weight bits: first and last layers' own
    assert [cells[0][4], cells[1][4]] == ["8", "2"]  # what they read: an image, and quantized activations
    assert sum(float(row[8]) for row in cells) > 99.5  # shares of all bit operations, in percent, rounded


def test_a_stage_is_chosen_in_the_address(client: TestClient, database: Database) -> None:
    finished_search(client, database)
    (number,) = numbers(database, "basic-L8-D3")
    (of_float,) = [each for each in rows(database, tables.Stage, evaluation_id=number) if each.bit_widths == "float"]

    page = client.get(f"/ui/evaluations/{number}", params={"stage": of_float.key[:12]}).text

    assert "Layers at float" in page
    assert client.get(f"/ui/evaluations/{number}", params={"stage": "nothing"}).status_code == 422
    assert client.get("/ui/evaluations/999").status_code == 404


def test_seeds_of_an_architecture_lead_to_each_other_and_compare(client: TestClient, database: Database) -> None:
    finished_search(client, database, seeds=[0, 1])
    first, second = numbers(database, "preact-L8-D3")

    page = client.get(f"/ui/evaluations/{first}").text
    (address,) = re.findall(r'href="(/ui/compare[^"]+)"', page)
    compared = client.get(html.unescape(address)).text

    assert f'<a href="/ui/evaluations/{second}">1</a>' in page
    assert "Compare 2 networks" in compared
    assert re.findall(r">(9\d\.\d\d)<", compared.split("W2A2, validation %")[1])[:2] == ["91.00", "91.25"]


def test_a_failed_evaluation_says_its_error_escaped(client: TestClient, database: Database) -> None:
    search = client.post("/search", json=BODY).json()
    with database.write() as session:
        propose(
            session, session.get_one(tables.Search, search["id"]), session.scalars(select(tables.Candidate)).first()
        )
        lease = leases.claim(session, "worker", 1000.0)
        assert lease is not None
        results.fail_evaluation(session, lease, "<b>no memory</b>")

    page = client.get(f"/ui/evaluations/{lease.evaluation_id}").text

    assert "&lt;b&gt;no memory&lt;/b&gt;" in page
    assert "There is nothing to download yet" in page


def test_comparing_marks_the_best_and_asks_for_two(client: TestClient, database: Database) -> None:
    finished_search(client, database)
    one, other = (numbers(database, name)[0] for name in NAMES[:2])

    page = client.get("/ui/compare", params={"evaluations": [one, other, one]}).text

    assert re.findall(r'best-value">(9\d\.\d\d)<', page) == ["98.00", "97.00", "93.00", "92.00"]
    assert "Choose two or more" in client.get("/ui/compare", params={"evaluations": one}).text
    assert client.get("/ui/compare", params={"evaluations": [*range(1, 20)]}).status_code == 422
    assert client.get("/ui/compare?evaluations=999").status_code == 404


def test_the_leaderboard_of_a_task_keeps_what_it_is_asked_in_its_links(client: TestClient, database: Database) -> None:
    finished_search(client, database)

    page = client.get("/ui/leaderboard?task=digits&bit_widths=W2A2&block=basic&sort=-float_accuracy").text
    empty = client.get("/ui/leaderboard", params={"task": "rings"}).text

    assert re.findall(r'<tr id="row-([^"]+)"', page) == ["basic-L8-D4", "basic-L8-D3"]
    assert 'href="?task=digits&amp;bit_widths=W2A2&amp;block=basic&amp;sort=parameters"' in page
    assert (
        'href="/leaderboard?task=digits&amp;bit_widths=W2A2&amp;block=basic&amp;sort=-float_accuracy&amp;format=csv"'
        in page
    )
    assert "Nothing here yet" in empty
    assert client.get("/ui/leaderboard?task=digits&sort=nonsense").status_code == 422


def test_a_search_by_a_changed_recipe_links_to_the_leaderboard_of_that_recipe(
    client: TestClient, database: Database
) -> None:
    search = finished_search(client, database, recipe={"float_part": {"schedule": {"epochs": 9}}})

    (address,) = re.findall(r'href="(/ui/leaderboard\?[^"]+)"', client.get(search["links"]["page"]).text)
    page = client.get(html.unescape(address)).text

    assert re.findall(r'<tr id="row-([^"]+)"', page) == [NAMES[0], NAMES[2], NAMES[1]]
    assert "float_part.schedule.epochs = 9" in page


def test_a_network_that_is_gone_cannot_be_measured_and_the_page_is_told_why(
    client: TestClient, database: Database
) -> None:
    finished_search(client, database)
    (number,) = numbers(database, "basic-L8-D3")
    (stage,) = [each for each in rows(database, tables.Stage, evaluation_id=number) if each.bit_widths == "W2A2"]

    refused = client.get(f"/ui/evaluations/{number}/measurements", params={"stage": stage.key})

    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert "evaluation" in refused.json()["detail"]
