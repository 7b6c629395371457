"""Searches that are deleted, and what stays of them."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from playing import play_worker, rows

from searcher.database import Database
from searcher.tables import Candidate, Evaluation, Event, Proposal, Search

BODY = {"task": "digits", "parameter_budget": 20_000, "architectures": ["basic-L8-D3"], "bit_widths": ["W2A2"]}


def posted(client: TestClient, **changes: Any) -> Any:
    return client.post("/search", json=BODY | changes).json()


def test_a_running_search_is_not_deleted_and_the_answer_says_what_to_do(client: TestClient) -> None:
    search = posted(client)

    refused = client.delete(search["links"]["self"])

    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert f"POST {search['links']['cancel']}" in refused.json()["detail"]
    assert client.get(search["links"]["self"]).json() == search


def test_an_ended_search_goes_and_its_results_stay_for_others(client: TestClient, database: Database) -> None:
    search = posted(client)
    play_worker(database, search["id"])
    other = posted(client)

    deleted = client.delete(search["links"]["self"])

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert client.get(search["links"]["self"]).status_code == 404
    assert client.delete(search["links"]["self"]).status_code == 404
    assert [each.search_id for table in (Candidate, Proposal, Event) for each in rows(database, table)] == (
        [other["id"]] * sum(len(rows(database, table)) for table in (Candidate, Proposal, Event))
    )
    assert [each.id for each in rows(database, Search)] == [other["id"]]
    assert len(rows(database, Evaluation)) == 1
    assert len(client.get(other["links"]["leaderboard"]).json()["entries"]) == 1
    assert len(client.get("/leaderboard", params={"task": "digits", "bit_widths": "W2A2"}).json()["entries"]) == 1


def test_a_cancelled_search_may_be_deleted(client: TestClient) -> None:
    search = posted(client)
    client.post(search["links"]["cancel"])

    assert client.delete(search["links"]["self"]).status_code == 204
    assert client.get("/searches").json() == {"searches": [], "next": None}
