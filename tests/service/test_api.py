"""The REST API on both databases; no worker runs here, so searches stay as they are posted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playing import play_accuracies
from sqlalchemy import func, select

from qcore import TASKS
from searcher import tables
from searcher.database import Database
from searcher.plan import plan
from searcher.request import SearchRequest
from service.app import create_app
from service.output import print_leaderboard
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000}


def rows(database: Database) -> int:
    with database.read() as session:
        return sum(
            session.scalars(select(func.count()).select_from(table)).one()
            for table in tables.Base.metadata.sorted_tables
        )


def test_a_posted_search_is_there_to_be_read(client: TestClient) -> None:
    posted = client.post("/search", json=BODY)

    assert posted.status_code == 201
    search = posted.json()
    assert posted.headers["location"] == search["links"]["self"] == f"/searches/{search['id']}"
    assert search["bit_widths"] == ["W2A2", "W2AF", "WFA2"]
    assert search["status"] == "running"
    assert client.get(search["links"]["self"]).json() == search
    assert client.get("/searches").json() == {"searches": [search], "next": None}
    assert client.get(search["links"]["leaderboard"]).json()["entries"] == []


def test_candidates_are_all_within_the_budget_and_described(client: TestClient) -> None:
    search = client.post("/search", json=BODY).json()

    candidates = client.get(search["links"]["candidates"]).json()["candidates"]

    assert len(candidates) == search["progress"]["candidates"]
    assert {each["costs"]["block"] for each in candidates} == {"basic", "preact", "depthwise"}
    assert all(each["costs"]["parameters"] <= BODY["parameter_budget"] for each in candidates)
    assert all(each["evaluations"] == [] for each in candidates)


def test_candidates_are_within_budgets_of_bytes_and_bit_operations(client: TestClient) -> None:
    body = {"task": "digits", "model_bytes_budget": 8192, "bit_operations_budget": 1_800_000, "bit_widths": ["W4A4"]}
    search = client.post("/search", json=body).json()
    candidates = client.get(search["links"]["candidates"]).json()["candidates"]
    page = client.get(search["links"]["page"]).text

    budgets = [f"{cost}_budget" for cost in ("parameter", "model_bytes", "bit_operations")]
    assert [search[budget] for budget in budgets] == [None, 8192, 1_800_000]
    assert len(candidates) == search["progress"]["candidates"] > 1
    assert all(each["costs"]["model_bytes"]["W4A4"] <= 8192 for each in candidates)
    assert all(each["costs"]["bit_operations"]["W4A4"] <= 1_800_000 for each in candidates)
    assert f"Search {search['id']}: digits, at most 8 KiB and 1.8 million bit operations at W4A4" in page
    assert "8 KiB and 1.8 million bit operations at W4A4</td>" in client.get("/").text


def test_the_description_of_the_api_says_what_the_budgets_are(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["SearchRequest"]

    assert schema["required"] == ["task"]
    assert "At least one" in schema["properties"]["parameter_budget"]["description"]
    assert "first bit widths" in schema["properties"]["model_bytes_budget"]["description"]
    assert "first bit widths" in schema["properties"]["bit_operations_budget"]["description"]
    for example in schema["examples"]:
        plan(SearchRequest(**example))


def test_named_architectures_are_the_candidates_and_keep_their_names(client: TestClient) -> None:
    names = ["mobilenetv2-x0.05", "resnet20"]
    body = {"task": "digits", "parameter_budget": 300_000, "architectures": names}
    search = client.post("/search", json=body).json()

    candidates = client.get(search["links"]["candidates"]).json()["candidates"]

    assert [each["costs"]["architecture"] for each in candidates] == ["mobilenetv2-x0.05", "basic-L20-D16"]
    assert [each["costs"]["depth"] for each in candidates] == [53, 20]


def test_tasks_say_which_blocks_suit_and_which_a_search_takes(client: TestClient) -> None:
    tasks = {each["name"]: each for each in client.get("/tasks").json()["tasks"]}

    assert tasks["digits"]["blocks"]["mobilenetv2"] == [53]
    assert tasks["digits"]["default_blocks"] == ["basic", "preact", "depthwise"]
    assert tasks["rings"]["default_blocks"] == [*tasks["rings"]["blocks"]] == ["plain", "residual"]


def test_searches_are_listed_newest_first_and_page_by_page(client: TestClient) -> None:
    ids = [client.post("/search", json=BODY).json()["id"] for _ in range(3)]

    first = client.get("/searches", params={"limit": 2}).json()["searches"]
    rest = client.get("/searches", params={"limit": 2, "before": first[-1]["id"]}).json()["searches"]

    assert [each["id"] for each in first + rest] == ids[::-1]


def test_a_cancelled_search_stays_cancelled(client: TestClient) -> None:
    search = client.post("/search", json=BODY).json()

    cancelled = client.post(search["links"]["cancel"]).json()

    assert cancelled["status"] == "cancelled"
    assert cancelled["ended_at"] is not None
    assert client.post(search["links"]["cancel"]).json() == cancelled


STRATEGY = {
    "sampler": "gp",
    "rungs": [0.1, 0.3],
    "promoted_share": 0.5,
    "max_seeds": 4,
    "top": 2,
    "indifference_margin": 0.2,
    "max_evaluations": 20,
    "time_limit_s": 3600.0,
    "target_accuracy": 99.0,
    "priority": 7,
}


def test_a_search_shows_how_it_goes_about_it(client: TestClient) -> None:
    search = client.post("/search", json={**BODY, **STRATEGY}).json()

    shown = {name: search[name] for name in STRATEGY if name != "rungs"}
    assert shown == {name: value for name, value in STRATEGY.items() if name != "rungs"}
    assert [rung["name"] for rung in search["rungs"]] == ["short x0.1", "short x0.3"]
    assert client.get(search["links"]["self"]).json() == search
    empty = client.get(search["links"]["leaderboard"], params={"rung": 1}).json()
    assert (empty["recipe"]["name"], empty["bit_widths"], empty["entries"]) == ("short x0.3", ["W2A2"], [])


def test_a_rung_that_a_search_does_not_have_is_refused(client: TestClient) -> None:
    search = client.post("/search", json={**BODY, "rungs": [0.1]}).json()
    plain = client.post("/search", json=BODY).json()

    answers = [client.get(each["links"]["leaderboard"], params={"rung": 1}) for each in (search, plain)]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert "has rungs 0 to 0" in answers[0].json()["detail"]
    assert "has no rungs" in answers[1].json()["detail"]


def test_limits_of_a_search_can_be_changed(client: TestClient) -> None:
    search = client.post("/search", json={**BODY, "max_evaluations": 3}).json()

    extended = client.post(search["links"]["extend"], json={"max_evaluations": 5, "target_accuracy": 90.0}).json()
    freed = client.post(search["links"]["extend"], json={"max_evaluations": None}).json()

    assert (extended["max_evaluations"], extended["target_accuracy"], extended["status"]) == (5, 90.0, "running")
    assert (freed["max_evaluations"], freed["target_accuracy"]) == (None, 90.0)


@pytest.mark.parametrize(
    ("limits", "field"),
    [({"max_evaluations": 0}, "max_evaluations"), ({"time_limit_s": -1}, "time_limit_s"), ({"seeds": [1]}, "seeds")],
)
def test_limits_that_are_none_are_refused(client: TestClient, limits: dict[str, Any], field: str) -> None:
    search = client.post("/search", json=BODY).json()

    answer = client.post(search["links"]["extend"], json=limits)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert client.get(search["links"]["self"]).json() == search


def test_a_cancelled_search_is_not_extended_nor_one_that_is_not_there(client: TestClient) -> None:
    search = client.post("/search", json=BODY).json()
    client.post(search["links"]["cancel"])

    assert client.post(search["links"]["extend"], json={"max_evaluations": 9}).status_code == 422
    assert client.post("/searches/9999/extend", json={"max_evaluations": 9}).status_code == 404


def test_events_end_with_the_search_and_resume_after_the_last_seen(client: TestClient) -> None:
    search = client.post("/search", json=BODY).json()
    client.post(search["links"]["cancel"])

    events = _events(client.get(search["links"]["events"]).text)
    stored = [event for event in events if "id" in event]
    resumed = _events(client.get(search["links"]["events"], headers={"Last-Event-ID": stored[0]["id"]}).text)

    assert [event["event"] for event in stored] == ["search_created", "search_cancelled"]
    assert events[-1] == stored[-1]
    progress = next(event for event in events if event["event"] == "progress")
    assert json.loads(progress["data"])["status"] == "cancelled"
    assert [event["event"] for event in resumed if "id" in event] == ["search_cancelled"]


@pytest.mark.parametrize("last", ["-1", "x", "9" * 50, "9" * 5000, "", "1e3"])
def test_an_unusable_last_event_id_starts_somewhere_sensible(client: TestClient, last: str) -> None:
    search = client.post("/search", json=BODY).json()
    client.post(search["links"]["cancel"])

    assert client.get(search["links"]["events"], headers={"Last-Event-ID": last}).status_code == 200


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({**BODY, "task": "cifar11"}, "task"),
    ({**BODY, "task": 7}, "task"),
    ({**BODY, "task": "\ud800"}, "task"),
    ({"parameter_budget": 20_000}, "task"),
    ({"task": "digits"}, "parameter_budget"),
    ({**BODY, "parameter_budget": 0}, "parameter_budget"),
    ({**BODY, "parameter_budget": -5}, "parameter_budget"),
    ({**BODY, "parameter_budget": 10**12}, "parameter_budget"),
    ({**BODY, "parameter_budget": 10**400}, "parameter_budget"),
    ({**BODY, "parameter_budget": 50}, "parameter_budget"),
    ({**BODY, "parameter_budget": "20000"}, "parameter_budget"),
    ({**BODY, "parameter_budget": 2e4}, "parameter_budget"),
    ({**BODY, "parameter_budget": True}, "parameter_budget"),
    ({**BODY, "parameter_budget": None}, "parameter_budget"),
    ({"task": "digits", "model_bytes_budget": None, "bit_operations_budget": None}, "parameter_budget"),
    ({**BODY, "model_bytes_budget": 0}, "model_bytes_budget"),
    ({**BODY, "model_bytes_budget": 4e3}, "model_bytes_budget"),
    ({**BODY, "model_bytes_budget": 10**9}, "model_bytes_budget"),
    ({**BODY, "model_bytes_budget": 100}, "model_bytes_budget"),
    ({**BODY, "bit_operations_budget": "9"}, "bit_operations_budget"),
    ({**BODY, "bit_operations_budget": 10**16}, "bit_operations_budget"),
    ({**BODY, "bit_operations_budget": 1000}, "bit_operations_budget"),
    ({**BODY, "architectures": ["basic-L8-D3"], "model_bytes_budget": 100}, "architectures"),
    ({**BODY, "bit_widths": ["W2A2", "W3B1"]}, "bit_widths"),
    ({**BODY, "bit_widths": ["W1A2"]}, "bit_widths"),
    ({**BODY, "bit_widths": ["float"]}, "bit_widths"),
    ({**BODY, "bit_widths": []}, "bit_widths"),
    ({**BODY, "bit_widths": "W2A2"}, "bit_widths"),
    ({**BODY, "bit_widths": ["W2A2", "W2A2"]}, "bit_widths"),
    ({**BODY, "blocks": ["plain"]}, "blocks"),
    ({**BODY, "blocks": []}, "blocks"),
    ({**BODY, "depths": [9]}, "depths"),
    ({**BODY, "widths": [1]}, "widths"),
    ({**BODY, "architectures": []}, "architectures"),
    ({**BODY, "architectures": ["resnet20-x2"]}, "architectures"),
    ({**BODY, "architectures": ["basic-L8-D3"], "depths": [8]}, "depths"),
    ({**BODY, "engine": "magic"}, "engine"),
    ({**BODY, "max_evaluations": 0}, "max_evaluations"),
    ({**BODY, "sampler": "cma"}, "sampler"),
    ({**BODY, "minimize": "latency"}, "minimize"),
    ({**BODY, "minimize": "parameters", "sampler": "grid"}, "minimize"),
    ({**BODY, "rungs": [1.0]}, "rungs.0"),
    ({**BODY, "rungs": [0.3, 0.1]}, "rungs"),
    ({**BODY, "promoted_share": 1.0}, "promoted_share"),
    ({**BODY, "seeds": [0, 1], "max_seeds": 1}, "max_seeds"),
    ({**BODY, "top": 0}, "top"),
    ({**BODY, "indifference_margin": -1.0}, "indifference_margin"),
    ({**BODY, "time_limit_s": 0}, "time_limit_s"),
    ({**BODY, "target_accuracy": 101}, "target_accuracy"),
    ({**BODY, "priority": 1000}, "priority"),
    ({**BODY, "seeds": [-1]}, "seeds.0"),
    ({**BODY, "seeds": [1, 1]}, "seeds"),
    ({**BODY, "recipe": "long"}, "recipe"),
    ({**BODY, "recipe": 5}, "recipe"),
    ({**BODY, "recipe": {"float_part": {"schedule": {"epochs": 0}}}}, "recipe.float_part.schedule.epochs"),
    ({**BODY, "recipe": {"float_part": {"validation_share": 0.0}}}, "recipe.float_part.validation_share"),
    ({**BODY, "recipe": {"float_part": {"validation_share": 1e-6}}}, "recipe.float_part.validation_share"),
    ({**BODY, "recipe": {"speed": "fast"}}, "recipe.speed"),
    ({"task": "rings", "parameter_budget": 9000, "recipe": {"float_part": {"flip": True}}}, "recipe.float_part.flip"),
    ({**BODY, "seeds": list(range(32)), "widths": list(range(3, 103)), "parameter_budget": 10**8}, "seeds"),
    ({**BODY, "colour": "red"}, "colour"),
    ({"task": "cifar10", "parameter_budget": 1_100_000}, "task"),
    ({"task": "images/nowhere", "parameter_budget": 20_000}, "task"),
    ({"task": "images/../..", "parameter_budget": 20_000}, "task"),
    ({**BODY, "recipe": {"float_part": {"augmentation": "scale-crop"}}}, "recipe.float_part.augmentation"),
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty(
    request: pytest.FixtureRequest,
    fresh_database: Callable[[str], AbstractContextManager[Database]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[TestClient, Database]]:
    """A server that many requests share, since each has to leave its database empty."""
    with fresh_database(request.param) as database:
        settings = Settings(home=tmp_path_factory.mktemp("home"), database_url=None)
        with TestClient(create_app(settings, database), base_url="http://127.0.0.1") as client:
            yield client, database


@pytest.mark.parametrize(("body", "field"), BAD_BODIES, ids=lambda value: str(value)[:60])
def test_bad_input_names_field_and_remedy_and_stores_nothing(
    empty: tuple[TestClient, Database], body: dict[str, Any], field: str
) -> None:
    client, database = empty
    answer = client.post("/search", content=json.dumps(body), headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert field in [error["field"] for error in problem["errors"]]
    assert all(error["problem"] and error["remedy"] for error in problem["errors"])
    assert problem["status"] == 422
    assert field in problem["detail"]
    assert rows(database) == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"task": NaN}', b"\xff\xfe", b"[" * 50_000])
def test_a_body_that_is_no_json_object_is_a_problem_too(client: TestClient, content: bytes) -> None:
    answer = client.post("/search", content=content, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_forgotten_content_type_is_named(client: TestClient) -> None:
    answer = client.post("/search", content=json.dumps(BODY), headers={"content-type": "text/plain"})

    assert answer.status_code == 422
    assert "content-type: application/json" in answer.json()["errors"][0]["remedy"]


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_leaderboard_says_how_sure_it_is(
    client: TestClient, database: Database, capsys: pytest.CaptureFixture[str], seeds: list[int]
) -> None:
    names = ["basic-L8-D3", "basic-L8-D4", "basic-L8-D5"]
    body = {**BODY, "architectures": names, "bit_widths": ["W2A2"], "seeds": seeds}
    search = client.post("/search", json=body).json()
    accuracies = {"float": (98.0, 97.0, 99.0), "W2A2": (95.0, 94.9, 60.0)}
    play_accuracies(database, search, {bits: dict(zip(names, each, strict=True)) for bits, each in accuracies.items()})

    board = client.get(search["links"]["leaderboard"]).json()
    page = client.get(search["links"]["page"]).text
    print_leaderboard("digits", board)
    printed = capsys.readouterr().out

    first, _, last = board["entries"]
    assert (board["validation_examples"], board["order_agreement"]) == (288, pytest.approx(-1 / 3))
    assert {entry["interval"]["kind"] for entry in board["entries"]} == {"t" if len(seeds) > 1 else "binomial"}
    assert first["ranking_accuracies"] == [95.0 + seed / 4 for seed in seeds]
    assert [first["ranks"], last["ranks"]] == [{"lowest": 1, "highest": 2}, {"lowest": 3, "highest": 3}]
    for shown in (page, printed):
        assert f"{first['interval']['low']:.1f}–{first['interval']['high']:.1f}" in shown
        assert "1–2" in shown
        assert ("variance pooled over networks" if len(seeds) > 1 else "on 288 validation examples") in shown
        assert "Kendall's tau between the float and the W2A2 order: -0.33" in shown


def test_a_leaderboard_of_one_has_no_order_to_agree_with(
    client: TestClient, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    search = client.post("/search", json={**BODY, "architectures": ["basic-L8-D3"], "bit_widths": ["W2A2"]}).json()
    play_accuracies(database, search, {bits: {"basic-L8-D3": 90.0} for bits in ("float", "W2A2")})

    board = client.get(search["links"]["leaderboard"]).json()
    print_leaderboard("digits", board)

    assert board["order_agreement"] is None
    assert "tau" not in client.get(search["links"]["page"]).text + capsys.readouterr().out


def test_a_changed_recipe_has_a_leaderboard_of_its_own_that_says_what_is_changed(
    client: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"float_part": {"schedule": {"epochs": 9}}}

    board = client.get("/leaderboard", params={"task": "digits", "recipe": json.dumps(changed)}).json()
    posted = client.post("/search", json={**BODY, "recipe": changed}).json()

    assert board["recipe"] == posted["recipe"]
    chosen = {
        name: value for name, value in board["recipe_changes"].items() if name.split(".")[-1] in ("precision", "path")
    }
    assert set(chosen) == {"float_part.precision", "float_part.path"}  # what the recipe left open
    assert board["recipe_changes"] == {"float_part.schedule.epochs": 9} | chosen
    print_leaderboard("digits", board)
    assert "short*: float_part.schedule.epochs = 9" in capsys.readouterr().out
    assert client.get("/leaderboard", params={"task": "digits", "recipe": "{"}).status_code == 422


@pytest.mark.parametrize(
    "path", ["/searches/999", "/searches/999/leaderboard", "/searches/999/events", "/evaluations/999", "/?search=999"]
)
def test_what_does_not_exist_says_where_to_look(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "999 does not exist" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/searches/0", "/searches/x", f"/searches/{10**30}", f"/evaluations/{2**63}"])
def test_an_impossible_id_is_a_problem(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 422


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "task"),
        ({"task": "x"}, "task"),
        ({"task": "digits", "bit_widths": "W2A2,"}, "bit_widths"),
        ({"task": "digits", "recipe": "x"}, "recipe"),
        ({"task": "digits", "block": "x"}, "block"),
        ({"task": "digits", "max_parameters": "0"}, "max_parameters"),
    ],
)
def test_a_leaderboard_of_nothing_known_is_a_problem(client: TestClient, query: dict[str, str], field: str) -> None:
    answer = client.get("/leaderboard", params=query)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_tasks_say_whether_their_data_is_there(client: TestClient) -> None:
    tasks = {task["name"]: task for task in client.get("/tasks").json()["tasks"]}

    assert set(tasks) == set(TASKS)
    assert tasks["digits"]["data"] == {"ready": True, "remedy": None}
    assert tasks["cifar10"]["data"]["ready"] is False
    assert "data_batch_1" in tasks["cifar10"]["data"]["remedy"]
    assert tasks["rings"]["blocks"].keys() == {"plain", "residual"}


def write_parts(data_root: Path, count: int = 30) -> Path:
    folder = data_root / "images" / "parts"
    for each in ("bolt", "nut", "washer"):
        (folder / each).mkdir(parents=True)
        for index in range(count):
            (folder / each / f"{index}.jpg").write_bytes(b"of " + each.encode())
    return folder


def test_the_users_own_images_are_a_task_like_others(client: TestClient, tmp_path: Path) -> None:
    write_parts(tmp_path / "datasets")

    tasks = {task["name"]: task for task in client.get("/tasks").json()["tasks"]}
    posted = client.post("/search", json={**BODY, "task": "images/parts@16"})

    assert tasks["images/parts"]["data"] == {"ready": True, "remedy": None}
    assert (tasks["images/parts"]["classes"], tasks["images/parts"]["metric"]) == (3, "accuracy")
    assert posted.status_code == 201
    assert posted.json()["task"] == "images/parts@16"
    assert client.get("/leaderboard", params={"task": "images/parts@16"}).json()["entries"] == []
    for path in ("images/..", "images/nowhere", "/etc", "images/../../etc"):
        problem = client.post("/search", json={**BODY, "task": path})
        assert problem.status_code == 422
        assert [error["field"] for error in problem.json()["errors"]] == ["task"], path


def test_a_search_outlives_the_images_it_was_posted_for(client: TestClient, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "datasets")
    search = client.post("/search", json={**BODY, "task": "images/parts"}).json()
    before = client.get(search["links"]["candidates"]).json()

    folder.rename(tmp_path / "elsewhere")

    assert client.get(search["links"]["candidates"]).json() == before
    assert client.get(search["links"]["leaderboard"]).status_code == 200
    assert client.get(search["links"]["page"]).status_code == 200
    assert client.post("/search", json={**BODY, "task": "images/parts"}).status_code == 422


def test_health_names_the_service(client: TestClient) -> None:
    assert client.get("/healthz").json()["service"] == "quantrank"


def test_the_page_is_useful_before_the_first_search(client: TestClient) -> None:
    page = client.get("/")

    assert page.status_code == 200
    assert "quantrank search --task digits" in page.text


def _events(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if "event:" in block]
    return [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in blocks]
