"""Long lists come in pages that lead to each other, whatever is added meanwhile."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from searcher.database import Database
from searcher.tables import Worker

BODY = {"task": "digits", "parameter_budget": 20_000}


def pages(client: TestClient, path: str, name: str) -> list[list[Any]]:
    found, next_path = [], path
    while next_path:
        answer = client.get(next_path).json()
        found.append(answer[name])
        next_path = answer["next"]
    return found


def test_searches_lead_from_page_to_page(client: TestClient) -> None:
    ids = [client.post("/search", json=BODY).json()["id"] for _ in range(5)]

    found = pages(client, "/searches?limit=2", "searches")

    assert [[each["id"] for each in page] for page in found] == [ids[:2:-1], ids[2:0:-1], ids[:1]]


def test_a_page_that_holds_the_rest_exactly_leads_nowhere(client: TestClient) -> None:
    for _ in range(2):
        client.post("/search", json=BODY)

    assert client.get("/searches", params={"limit": 2}).json()["next"] is None


def test_searches_are_listed_by_status_and_task_and_pages_keep_the_filter(client: TestClient) -> None:
    ids = [client.post("/search", json=BODY).json()["id"] for _ in range(3)]
    other = client.post("/search", json={"task": "rings", "parameter_budget": 9000}).json()["id"]
    client.post(f"/searches/{ids[1]}/cancel")

    running = pages(client, "/searches?limit=1&status=running&task=digits", "searches")

    assert [each["id"] for page in running for each in page] == [ids[2], ids[0]]
    assert [each["id"] for each in client.get("/searches?status=cancelled").json()["searches"]] == [ids[1]]
    assert [each["id"] for each in client.get("/searches?task=rings").json()["searches"]] == [other]
    assert client.get("/searches?status=lost").status_code == 422


def test_candidates_lead_from_page_to_page_in_their_order(client: TestClient) -> None:
    first, second = (client.post("/search", json=BODY).json() for _ in range(2))
    whole = client.get(second["links"]["candidates"]).json()

    found = pages(client, f"{second['links']['candidates']}?limit=4", "candidates")

    assert whole["next"] is None
    assert [each for page in found for each in page] == whole["candidates"]
    assert [len(page) for page in found[:-1]] == [4] * (len(found) - 1)
    assert client.get(first["links"]["candidates"]).json()["candidates"] == whole["candidates"]


def test_workers_lead_from_page_to_page_by_host(client: TestClient, database: Database) -> None:
    hosts = ["c", "a", "b", "a", "b"]
    with database.write() as session:
        session.add_all(
            Worker(id=str(index), host=host, pid=1, device="cpu", cores=1, threads=1, versions={}, lease_seconds=9)
            for index, host in enumerate(hosts)
        )

    found = [each for page in pages(client, "/workers?limit=2", "workers") for each in page]

    assert [each["host"] for each in found] == sorted(hosts)
    assert {each["id"] for each in found} == set("01234")
    assert client.get("/workers?after=nobody").json() == {"workers": [], "problem": None, "next": None}
