"""Leaderboards over REST: pages, filters, CSV, ETags, and rows that say how to make them again."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playing import play
from sqlalchemy import select

from qcore import Architecture, get_task, stages_of
from searcher.database import Database
from searcher.named import parse_bit_widths, resolve_recipe
from searcher.tables import Evaluation, Stage
from service.app import create_app
from service.cli import _parser
from service.settings import Settings

WIDTHS = [3, 4, 5, 6, 7]
BODY = {
    "task": "digits",
    "parameter_budget": 50_000,
    "blocks": ["basic"],
    "depths": [8],
    "widths": WIDTHS,
    "bit_widths": ["W2A2", "W2AF"],
    "seeds": [0, 1],
}
MADE_BY = {"quantrank": "0.1.0", "numerics": 4, "torch": "2.9", "python": "3.12", "device": "cpu (x86_64)", "host": "h"}
W2A2 = {3: 60.0, 4: 80.0, 5: 80.0, 6: 95.0, 7: 70.0}
FLOAT = {3: 90.0, 4: 98.0, 5: 97.0, 6: 96.0, 7: 99.0}


@pytest.fixture
def search(client: TestClient, database: Database) -> Any:
    """A finished search of five architectures with two seeds."""
    posted = client.post("/search", json=BODY).json()
    play_widths(database, posted["id"])
    return posted


def play_widths(database: Database, search_id: int, threads: int = 1) -> None:
    def told(evaluation: Evaluation, bits: str) -> dict[str, Any]:
        of_width = {"float": FLOAT, "W2A2": W2A2}.get(bits, FLOAT)
        value = of_width[evaluation.width] + evaluation.seed / 4
        return {
            "validation_accuracy": value,
            "test_accuracy": value - 1,
            "train_seconds": evaluation.width / 2,
            "provenance": {**MADE_BY, "threads": threads, "revision": f"r{evaluation.seed}"},
        }

    play(database, search_id, told)


def widths(board: Any) -> list[int]:
    return [entry["width"] for entry in board["entries"]]


def both(client: TestClient, search: Any, **query: Any) -> Any:
    """The page of the search's own leaderboard, which is that of all searches as there is only one."""
    own = client.get(search["links"]["leaderboard"], params=query).json()
    of_all = client.get("/leaderboard", params={"task": "digits", "bit_widths": "W2A2,W2AF", **query}).json()
    assert {**own, "next": None} == {**of_all, "next": None}
    return own


def test_rows_say_how_good_how_dear_and_how_sure(client: TestClient, search: Any) -> None:
    board = both(client, search)

    first = board["entries"][0]
    assert (board["total"], board["next"], first["rank"], first["width"], first["seeds"]) == (5, None, 1, 6, [0, 1])
    assert first["accuracy"]["W2A2"] == {"validation": 95.125, "test": 94.125}
    assert first["interval"]["kind"] == "t"
    assert (first["drop"], first["train_seconds"]) == (1.0, 12.0)
    assert all(first[cost] for cost in ("parameters", "macs"))
    assert first["bit_operations"].keys() == first["model_bytes"].keys() == {"float", "W2A2", "W2AF"}
    assert [entry["rank"] for entry in board["entries"]] == [1, 2, 2, 4, 5]
    made = [{key: each[key] for key in ("seeds", "quantrank", "device", "revision")} for each in first["provenance"]]
    expected = {"quantrank": "0.1.0", "device": "cpu (x86_64)"}
    assert made == [{"seeds": [seed], "revision": f"r{seed}", **expected} for seed in (0, 1)]


def test_the_best_in_float_and_the_best_quantized_are_marked_and_named_on_every_page(
    client: TestClient, search: Any
) -> None:
    whole, page = both(client, search), both(client, search, limit=1)

    assert {entry["width"]: entry["best_at"] for entry in whole["entries"]} == {
        **{width: [] for width in (3, 4, 5)},
        6: ["W2A2"],
        7: ["float"],
    }
    assert whole["best"] == page["best"] == {"float": ["basic-L8-D7"], "W2A2": ["basic-L8-D6"]}
    assert whole["order_agreement"] == page["order_agreement"] is not None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [6, 4, 5, 7, 3]),
        ({"sort": "-rank"}, [3, 7, 4, 5, 6]),
        ({"sort": "-float_accuracy"}, [7, 4, 5, 6, 3]),
        ({"sort": "parameters"}, [3, 4, 5, 6, 7]),
        ({"sort": "-train_seconds"}, [7, 6, 5, 4, 3]),
        ({"sort": "drop"}, [6, 5, 4, 7, 3]),
    ],
)
def test_pages_follow_each_other_in_the_order_that_was_asked_for(
    client: TestClient, search: Any, query: dict[str, str], expected: list[int]
) -> None:
    found, path = [], f"{search['links']['leaderboard']}?limit=2"
    page = client.get(path, params={"limit": 2, **query}).json()
    found.append(widths(page))
    while page["next"] is not None:
        page = client.get(page["next"]).json()
        found.append(widths(page))

    assert found == [expected[:2], expected[2:4], expected[4:]]
    assert widths(both(client, search, **query)) == expected


def test_filters_leave_what_is_within_them_ranked_among_itself(client: TestClient, search: Any) -> None:
    small = {entry["width"]: entry for entry in both(client, search)["entries"]}[5]

    for query in (
        {"max_parameters": small["parameters"]},
        {"max_model_bytes": small["model_bytes"]["W2A2"]},
        {"max_bit_operations": small["bit_operations"]["W2A2"]},
    ):
        board = both(client, search, **query)
        assert [(entry["width"], entry["rank"]) for entry in board["entries"]] == [(4, 1), (5, 1), (3, 3)]
        assert board["best"]["W2A2"] == ["basic-L8-D4", "basic-L8-D5"]
    assert widths(both(client, search, block="preact")) == []


def test_the_leaderboard_of_all_searches_shows_the_candidates_of_one(client: TestClient, search: Any) -> None:
    other = client.post("/search", json={**BODY, "widths": [4, 6]}).json()
    query = {"task": "digits", "bit_widths": "W2A2"}

    assert widths(client.get("/leaderboard", params={**query, "search": other["id"]}).json()) == [6, 4]
    answer = client.get("/leaderboard", params={**query, "search": 999})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "search"


@pytest.mark.parametrize("asked", [{"params": {"format": "csv"}}, {"headers": {"accept": "text/csv, */*;q=0.1"}}])
def test_csv_has_the_rows_of_the_json(client: TestClient, search: Any, asked: dict[str, Any]) -> None:
    path = f"{search['links']['leaderboard']}?limit=2&sort=parameters"
    board = client.get(path).json()
    asked = {"params": {"limit": 2, "sort": "parameters", **asked.get("params", {})}, "headers": asked.get("headers")}

    answer = client.get(search["links"]["leaderboard"], **asked)

    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    for row, entry in zip(rows, board["entries"], strict=True):
        assert row["architecture"] == entry["architecture"]
        assert float(row["W2A2_validation"]) == entry["accuracy"]["W2A2"]["validation"]
        assert float(row["W2AF_test"]) == entry["accuracy"]["W2AF"]["test"]
        assert float(row["float_test"]) == entry["accuracy"]["float"]["test"]
        assert (float(row["interval_low"]), row["seeds"]) == (entry["interval"]["low"], "0 1")
        assert int(row["W2A2_model_bytes"]) == entry["model_bytes"]["W2A2"]
        assert (row["revision"], row["device"], row["command"]) == ("r0, r1", "cpu (x86_64)", entry["command"])
    following = answer.links["next"]["url"]
    rest = client.get(following, headers={"accept": "text/csv"}).text
    assert [row["width"] for row in csv.DictReader(io.StringIO(rest))] == ["5", "6"]


@pytest.mark.parametrize("begins", "=+-@\t\r")
def test_text_in_csv_is_no_formula_and_numbers_are_numbers(client: TestClient, database: Database, begins: str) -> None:
    name = f"{begins}cmd|' /C calc'!A0"
    posted = client.post("/search", json=BODY | {"widths": [3], "seeds": [0]}).json()

    def told(_evaluation: Evaluation, bits: str) -> dict[str, Any]:
        value = 50.0 if bits == "float" else 60.0
        values = {"validation_accuracy": value, "test_accuracy": value, "train_seconds": 1.0}
        return values | {"provenance": MADE_BY | {"device": name, "revision": name}}

    play(database, posted["id"], told)

    for path in (posted["links"]["leaderboard"], "/leaderboard?task=digits&bit_widths=W2A2,W2AF"):
        (row,) = csv.DictReader(io.StringIO(client.get(path, headers={"accept": "text/csv"}).text, newline=""))
        assert (row["device"], row["revision"]) == (f"'{name}", f"'{name}")
        assert row["drop"] == "-10.0"
        assert row["python"] == MADE_BY["python"]


def test_csv_of_nothing_is_a_header(client: TestClient) -> None:
    (header,) = client.get("/leaderboard", params={"task": "digits", "format": "csv"}).text.splitlines()
    assert header.startswith("rank,rank_lowest,rank_highest,architecture")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_what_a_client_has_is_not_sent_again_until_it_changes(
    client: TestClient, database: Database, search: Any, form: str
) -> None:
    def get(etag: str | None = None) -> Any:
        query = {"task": "digits", "bit_widths": "W2A2,W2AF", "format": form}
        return client.get("/leaderboard", params=query, headers={} if etag is None else {"if-none-match": etag})

    first = get()
    same = get(f'"other", W/{first.headers["etag"]}')
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    play_widths(database, client.post("/search", json={**BODY, "seeds": [0, 1, 2]}).json()["id"])
    changed = get(first.headers["etag"])
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert changed.text != first.text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"sort": "latency"}, "sort"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "WzEsMiwzXQ"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"limit": "0"}, "limit"),
        ({"limit": "100000"}, "limit"),
        ({"format": "xml"}, "format"),
        ({"block": "plain"}, "block"),
        ({"max_model_bytes": "-1"}, "max_model_bytes"),
    ],
)
def test_what_cannot_be_shown_is_a_problem(client: TestClient, query: dict[str, str], field: str) -> None:
    search = client.post("/search", json=BODY).json()
    for path, task in (("/leaderboard", {"task": "digits"}), (search["links"]["leaderboard"], {})):
        answer = client.get(path, params={**task, **query})
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_cursor_is_of_one_order(client: TestClient, search: Any) -> None:
    path = search["links"]["leaderboard"]
    following = client.get(path, params={"limit": 1}).json()["next"]

    assert client.get(f"{following}&sort=macs").status_code == 422


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("recipe", [None, "paper", {"retraining": {"schedule": {"epochs": 3}}, "name": "paper"}])
def test_the_command_of_a_row_trains_the_stages_that_made_it(
    client: TestClient, sqlite_database: Database, tmp_path: Path, recipe: Any, threads: int
) -> None:
    given = {} if recipe is None else {"recipe": recipe}
    if recipe == "paper":
        given = {"recipe": {"name": "paper", "float_part": {"validation_share": 0.2}}}
    settings = Settings(home=tmp_path, database_url=None)
    with TestClient(create_app(settings, sqlite_database), base_url="http://127.0.0.1") as client:
        search = client.post("/search", json={**BODY, "widths": [3], **given}).json()
        play_widths(sqlite_database, search["id"], threads)
        (entry,) = client.get(search["links"]["leaderboard"]).json()["entries"]

    loop, command, done = entry["command"].split("; ")
    assert (loop, done) == ("for seed in 0 1", "done")
    program, *words = shlex.split(command.removeprefix("do ").replace("$seed", "1"))
    parsed = _parser().parse_args(words)
    assert (program, parsed.command, parsed.seed, parsed.threads) == ("quantrank", "evaluate", 1, threads)
    task = get_task(parsed.task)
    trained = stages_of(
        task,
        Architecture.parse(parsed.architecture),
        resolve_recipe(task, parsed.recipe, tmp_path),
        parsed.seed,
        parse_bit_widths(parsed.bit_widths),
    )
    with sqlite_database.read() as session:
        stored = session.scalars(
            select(Stage.key).join(Evaluation, Evaluation.id == Stage.evaluation_id).where(Evaluation.seed == 1)
        ).all()
    assert {stage.key for stage in trained} == set(stored)


def test_the_description_of_the_api_says_what_can_be_asked_and_answered(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]
    for path in ("/leaderboard", "/searches/{search_id}/leaderboard"):
        route = described[path]["get"]
        names = {each["name"] for each in route["parameters"]}
        assert {"sort", "cursor", "limit", "format", "max_parameters", "max_model_bytes", "max_bit_operations"} <= names
        assert route["responses"]["200"]["content"].keys() == {"application/json", "text/csv"}
        assert "304" in route["responses"]
    json.dumps(described)
