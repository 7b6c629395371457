"""What a search would cost, told before it is posted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playing import play_worker, rows

from searcher.database import Database
from searcher.estimate import DEFAULT_ON_CPU
from searcher.tables import Base
from service.cli import main

EPOCHS = {"float_part": {"schedule": {"epochs": 4}}, "retraining": {"schedule": {"epochs": 2}}}
NAMES = ["basic-L8-D3", "basic-L8-D4", "basic-L14-D5"]
BODY = {
    "task": "digits",
    "parameter_budget": 50_000,
    "architectures": NAMES,
    "bit_widths": ["W2A2", "WFA2"],
    "recipe": EPOCHS,
}


def estimated(client: TestClient, workers: int | None = 1, **changes: Any) -> Any:
    answer = client.post("/search/estimate", json=BODY | changes, params={"workers": workers} if workers else None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_candidates_and_hours_are_told_and_nothing_is_stored(client: TestClient, database: Database) -> None:
    found = estimated(client)

    assert [each["costs"]["architecture"] for each in found["listed"]] == NAMES
    assert (found["candidates"], found["evaluations"], found["measured_stages"]) == (3, 3, 0)
    assert found["seconds_per_mac"] is None
    assert f"assumed {DEFAULT_ON_CPU.seconds_per_mac:g} seconds" in found["rests_on"]
    macs, layers = (sum(each["costs"][name] for each in found["listed"]) for name in ("macs", "depth"))
    seconds_per_example = DEFAULT_ON_CPU.seconds_per_mac * macs + DEFAULT_ON_CPU.seconds_per_layer * layers / 64
    expected = seconds_per_example * 1438 * 0.8 * (4 + 2 * 2) / 3600
    assert found["training_hours"] == pytest.approx(expected, rel=1e-3)
    assert found["hours"] == found["training_hours"] == pytest.approx(sum(each["hours"] for each in found["listed"]))
    assert all(rows(database, mapper.class_) == [] for mapper in Base.registry.mappers)


def test_hours_are_scaled_from_what_the_task_took(client: TestClient, database: Database) -> None:
    first = client.post("/search", json=BODY | {"architectures": NAMES[:1]}).json()
    play_worker(database, first["id"], seconds=36.0)
    before, again = estimated(client, architectures=NAMES[1:2]), estimated(client, architectures=NAMES[:1])
    longer = {"float_part": {"schedule": {"epochs": 8}}, "retraining": {"schedule": {"epochs": 4}}}
    twice = estimated(client, architectures=NAMES[1:2], recipe=longer)

    small, larger = again["listed"][0]["costs"]["macs"], before["listed"][0]["costs"]["macs"]
    assert before["measured_stages"] == 3
    assert before["rests_on"].startswith("3 measured stages of digits")
    assert before["training_hours"] == pytest.approx(3 * 0.01 * larger / small)
    assert twice["training_hours"] == pytest.approx(2 * before["training_hours"])
    assert (again["training_hours"], again["evaluations"], again["listed"][0]["stages_stored"]) == (0, 0, 3)


def test_results_of_another_kind_of_device_say_nothing(client: TestClient, database: Database) -> None:
    first = client.post("/search", json=BODY | {"architectures": NAMES[:1]}).json()
    play_worker(database, first["id"], provenance={"device": "NVIDIA H100"})

    assert estimated(client, architectures=NAMES[1:2])["measured_stages"] == 0


def test_a_stage_that_is_there_costs_nothing(client: TestClient, database: Database) -> None:
    first = client.post("/search", json=BODY | {"bit_widths": ["W2A2"]}).json()
    play_worker(database, first["id"])

    found = estimated(client)

    assert [each["stages_stored"] for each in found["listed"]] == [2, 2, 2]
    assert found["training_hours"] == pytest.approx(0.03)  # WFA2 of three, taken to last as W2A2 did


def test_workers_share_the_evaluations_and_the_longest_bounds_them(client: TestClient) -> None:
    one, two, many = (estimated(client, workers=count) for count in (1, 2, 100))

    assert one["training_hours"] == two["training_hours"] == many["training_hours"]
    assert two["hours"] == pytest.approx(max(one["hours"] / 2, max(each["hours"] for each in one["listed"])))
    assert many["hours"] == pytest.approx(max(each["hours"] for each in one["listed"]))
    assert (estimated(client, workers=None)["workers"], estimated(client, workers=None)["workers_live"]) == (1, 0)


def test_rungs_seeds_and_limits_are_counted(client: TestClient) -> None:
    full = estimated(client)
    halved = estimated(client, rungs=[0.5], promoted_share=0.34)
    seeds = estimated(client, seeds=[0, 1])
    limited = estimated(client, max_evaluations=2)
    hurried = estimated(client, time_limit_s=0.001)

    assert halved["evaluations"] == 3 + 2  # the share of three is rounded up
    assert seeds["evaluations"] == 6
    assert seeds["training_hours"] == pytest.approx(2 * full["training_hours"])
    assert limited["evaluations"] == 2
    assert limited["training_hours"] == pytest.approx(full["training_hours"] * 2 / 3)
    assert hurried["ended_by_time_limit"]
    assert hurried["hours"] == pytest.approx(0.001 / 3600)
    assert not full["ended_by_time_limit"]


def test_no_more_candidates_are_listed_than_asked_for(client: TestClient) -> None:
    found = client.post("/search/estimate", json=BODY, params={"listed": 1}).json()

    assert (found["candidates"], len(found["listed"])) == (3, 1)


def test_what_cannot_be_posted_cannot_be_estimated(client: TestClient) -> None:
    answers = [client.post(path, json=BODY | {"parameter_budget": 5}) for path in ("/search", "/search/estimate")]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()


def test_the_command_estimates_and_posts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("URL", "DATABASE_URL"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path))
    monkeypatch.setenv("QUANTRANK_PORT", "9")
    arguments = ["search", "--task", "digits", "--parameter-budget", "4000", "--blocks", "basic", "--estimate"]

    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert {each["costs"]["block"] for each in found["listed"]} == {"basic"}
    assert found["candidates"] == len(found["listed"]) >= 1
    assert found["workers_live"] == 0
