"""Networks that lack seeds or bit widths that were asked for: provisional, wherever results are shown."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest
from playing import play_accuracies

from service.output import print_leaderboard

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from searcher.database import Database

BODY = {
    "task": "digits",
    "parameter_budget": 50_000,
    "blocks": ["basic"],
    "depths": [8],
    "widths": [3, 4],
    "bit_widths": ["W2A2"],
    "seeds": [0, 1, 2],
    "sampler": "grid",
    "max_evaluations": 4,
}
ACCURACIES = {
    "W2A2": {"basic-L8-D3": 70.0, "basic-L8-D4": 80.0},
    "float": {"basic-L8-D3": 90.0, "basic-L8-D4": 95.0},
}
LACKS = "W2A2 of seeds 1, 2"


@pytest.fixture
def search(client: TestClient, database: Database) -> Any:
    """One that ended with a network of one seed, of three asked for, in front."""
    posted = client.post("/search", json=BODY).json()
    play_accuracies(database, posted, ACCURACIES)
    return posted


def test_rest_tells_what_is_missing_and_who_is_best_without_it(client: TestClient, search: Any) -> None:
    assert client.get(f"/searches/{search['id']}").json()["ended_by"] == "max_evaluations"
    for address in (search["links"]["leaderboard"], "/leaderboard?task=digits&bit_widths=W2A2"):
        board = client.get(address).json()
        told = {entry["width"]: (entry["rank"], entry["provisional"], entry["best_at"]) for entry in board["entries"]}
        assert told == {4: (1, {"W2A2": [1, 2]}, []), 3: (2, None, ["float", "W2A2"])}
        assert board["best"] == {"float": ["basic-L8-D3"], "W2A2": ["basic-L8-D3"]}
        table = client.get(address, headers={"accept": "text/csv"}).text
        rows = {row["width"]: row for row in csv.DictReader(io.StringIO(table))}
        assert (rows["4"]["provisional"], rows["3"]["provisional"]) == (LACKS, "")


def test_the_command_marks_it_and_names_the_best_of_the_others(
    client: TestClient, search: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    print_leaderboard("Search 1", client.get(search["links"]["leaderboard"]).json())
    told = capsys.readouterr().out
    assert "basic-L8-D4 (provisional)" in told
    assert f"basic-L8-D4 lacks {LACKS}." in told
    assert "Best by validation accuracy: float basic-L8-D3; W2A2 basic-L8-D3." in told


def test_pages_mark_it_and_give_no_badge(client: TestClient, search: Any) -> None:
    page = client.get(f"/ui/searches/{search['id']}").text
    of_four = page.split('id="row-basic-L8-D4"')[1].split("</tr>")[0]
    of_three = page.split('id="row-basic-L8-D3"')[1].split("</tr>")[0]
    assert (LACKS in of_four, "badge best" in of_four) == (True, False)
    assert ("provisional" in of_three, "badge best" in of_three) == (False, True)
    summary = page.split('id="summary"')[1].split('class="card tile"')[1]
    assert ("basic-L8-D3" in summary, "basic-L8-D4" in summary) == (True, False)
    everywhere = client.get("/ui/leaderboard?task=digits&bit_widths=W2A2").text
    assert LACKS in everywhere.split('id="row-basic-L8-D4"')[1].split("</tr>")[0]
    points = client.get(f"/ui/searches/{search['id']}/charts").json()["points"]
    charts = {each["architecture"]: each for each in points}
    assert {name: each["provisional"] for name, each in charts.items()} == {"basic-L8-D4": True, "basic-L8-D3": False}


def test_the_architectures_page_tells_what_is_missing(client: TestClient, search: Any) -> None:
    board = client.get(search["links"]["leaderboard"]).json()
    four, three = (client.get(f"/ui/evaluations/{entry['evaluations'][0]}").text for entry in board["entries"])
    assert LACKS in four
    assert "provisional" not in three


def test_nothing_is_best_while_everything_is_provisional(client: TestClient, database: Database) -> None:
    posted = client.post("/search", json={**BODY, "max_evaluations": 1}).json()
    play_accuracies(database, posted, ACCURACIES)
    board = client.get(posted["links"]["leaderboard"]).json()
    assert board["best"] == {"float": [], "W2A2": []}
    page = client.get(f"/ui/searches/{posted['id']}").text
    assert "badge best" not in page
    assert "not known yet" in page
