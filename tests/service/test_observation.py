"""What operators see: metrics, log lines and request ids."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from callers import bearer, make_key, server
from fastapi.testclient import TestClient
from playing import play_worker
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, update

from searcher import workers
from searcher.artifacts import Artifacts
from searcher.database import Database, database_now
from searcher.log_context import is_for, working_on
from searcher.tables import Evaluation, Worker
from searcher.worker_settings import WorkerSettings
from service import logs, metrics
from service.access.roles import Role
from service.app import create_app
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000, "bit_widths": ["W2A2"]}
THREE = ["basic-L8-D3", "basic-L8-D4", "basic-L8-D5"]


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged, as JSON's readers have it."""
    found: list[dict[str, Any]] = []
    formatter = logs._Json("test")

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(formatter.format(record)))

    handler, root = Keeping(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


def figures(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def figure(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_requests_are_counted_by_route_and_status_and_not_by_id(embedded_client: TestClient) -> None:
    search = embedded_client.post("/search", json=BODY).json()
    for path in (search["links"]["self"], search["links"]["self"], "/searches/98", "/searches/99", "/nowhere"):
        embedded_client.get(path)
    embedded_client.request("BREW", "/searches")

    found = figures(embedded_client)

    requests = {labels: value for (name, labels), value in found.items() if name == "quantrank_http_requests_total"}
    assert figure(found, "quantrank_http_requests_total", method="POST", route="/search", status="201") == 1
    route = {"method": "GET", "route": "/searches/{search_id}"}
    assert figure(found, "quantrank_http_requests_total", **route, status="200") == 2
    assert figure(found, "quantrank_http_requests_total", **route, status="404") == 2
    assert figure(found, "quantrank_http_requests_total", method="GET", route="none", status="404") == 1
    assert figure(found, "quantrank_http_request_seconds_count", **route) == 4
    assert {dict(labels)["method"] for labels in requests} == {"GET", "POST", "other"}
    assert figure(found, "quantrank_http_requests_in_progress") == 1  # this one


def test_the_pool_is_counted(client: TestClient, database: Database, tmp_path: Path) -> None:
    search = client.post("/search", json=BODY | {"architectures": THREE}).json()
    client.post("/search", json=BODY | {"architectures": ["basic-L8-D6"]})
    play_worker(database, search["id"])
    settings = WorkerSettings(tmp_path, Artifacts(tmp_path))
    with database.write() as session:
        for worker_id in ("a", "b", "c", "d"):
            workers.register(session, worker_id, settings)
        done, lost, queued = session.query(Evaluation).order_by(Evaluation.id)
        lost.status, lost.attempt = "lost", 3
        queued.status = "queued"
        workers.beat(session, "a", done.id)
        workers.note_fitness(session, "d", "ill")
        session.execute(update(Worker).where(Worker.id == "c").values(heartbeat_at=database_now() - 1000))

    found = figures(client)

    assert figure(found, "quantrank_queue_depth") == 1
    assert [figure(found, "quantrank_evaluations", status=each) for each in ("done", "lost", "queued", "failed")] == [
        1,
        1,
        1,
        0,
    ]
    assert [figure(found, "quantrank_workers", state=each) for each in ("working", "idle", "unfit")] == [1, 1, 1]
    assert figure(found, "quantrank_searches", status="finished") == 1
    assert figure(found, "quantrank_searches", status="running") == 1
    assert figure(found, "quantrank_lost_claims") == 2
    assert figure(found, "quantrank_database_up") == 1


def test_leases_that_are_held_and_that_have_ended_are_told_apart(client: TestClient, database: Database) -> None:
    search = client.post("/search", json=BODY | {"architectures": THREE}).json()
    play_worker(database, search["id"])
    with database.write() as session:
        held, ended, _ = session.query(Evaluation).order_by(Evaluation.id)
        held.status, held.lease_ends = "running", 2**40
        ended.status, ended.lease_ends = "running", 1

    found = figures(client)

    assert (figure(found, "quantrank_leases_held"), figure(found, "quantrank_leases_ended")) == (1, 1)
    assert figure(found, "quantrank_evaluations", status="running") == 2


def test_however_often_metrics_are_asked_for_the_database_is_not(
    embedded_client: TestClient, sqlite_database: Database
) -> None:
    embedded_client.get("/metrics")
    statements: list[str] = []
    event.listen(sqlite_database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    for _ in range(5):
        embedded_client.get("/metrics")

    assert statements == []


def test_without_a_database_there_are_still_metrics_of_the_server(tmp_path: Path) -> None:
    database = Database("postgresql://somebody:h1dden@127.0.0.1:1/quantrank")
    client = TestClient(create_app(Settings(home=tmp_path), database), base_url="http://127.0.0.1")

    found = figures(client)

    assert figure(found, "quantrank_database_up") == 0
    assert not any(name == "quantrank_queue_depth" for name, _ in found)
    assert figure(found, "quantrank_http_requests_in_progress") == 1


def test_metrics_need_a_key_where_everything_does(sqlite_database: Database, tmp_path: Path) -> None:
    elsewhere = server(sqlite_database, tmp_path)

    assert elsewhere.get("/metrics").status_code == 401
    key = make_key(sqlite_database, Role.READ)
    assert elsewhere.get("/metrics", headers=bearer(key)).status_code == 200


def test_prometheus_gets_the_format_it_asks_for(embedded_client: TestClient) -> None:
    answer = embedded_client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_an_answer_says_the_id_of_its_request_and_so_do_the_lines(
    embedded_client: TestClient, lines: list[dict[str, Any]]
) -> None:
    named = embedded_client.post("/search", json=BODY, headers={"X-Request-ID": "proxy-7"})
    unnamed = embedded_client.get(named.json()["links"]["self"])
    refused = embedded_client.get("/searches/99/leaderboard")

    assert named.headers["x-request-id"] == "proxy-7"
    ids = [each.headers["x-request-id"] for each in (named, unnamed, refused)]
    assert len(set(ids)) == 3
    told = [line for line in lines if line["logger"] == "service.requests"]
    assert [line["request_id"] for line in told] == ids
    assert [(line["method"], line["status"], line.get("search")) for line in told] == [
        ("POST", 201, None),
        ("GET", 200, 1),
        ("GET", 404, 99),
    ]
    assert told[0]["caller"] == "this host"
    (posted,) = [line for line in lines if line["logger"] == "service.routes.searches"]
    assert (posted["request_id"], posted["search"], posted["level"]) == ("proxy-7", 1, "info")


@pytest.mark.parametrize("given", ["", "a b", "x" * 200, "line\tbreak", "ü"])
def test_an_id_that_would_spoil_the_log_is_replaced(embedded_client: TestClient, given: str) -> None:
    answer = embedded_client.get("/searches", headers={"X-Request-ID": given.encode()})

    assert answer.headers["x-request-id"].isalnum()


def test_a_fault_is_logged_under_the_id_that_the_answer_says(
    database: Database, tmp_path: Path, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("service.routes.searches.list_searches", broken)
    app = create_app(Settings(home=tmp_path), database)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    answer = client.get("/searches")

    assert answer.status_code == 500
    request_id = answer.headers["x-request-id"]
    assert f"request {request_id}" in answer.json()["detail"]
    (fault,) = [line for line in lines if "exception" in line]
    assert (fault["request_id"], fault["level"]) == (request_id, "error")
    assert "RuntimeError: a bug" in fault["exception"]
    assert [line["status"] for line in lines if line["logger"] == "service.requests"] == [500]


def test_what_asks_all_the_time_is_not_logged_unless_it_fails(
    embedded_client: TestClient, lines: list[dict[str, Any]]
) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert embedded_client.get(path).status_code == 200

    assert [line for line in lines if line["logger"] == "service.requests"] == []


def test_what_a_worker_logs_says_its_evaluation_and_who_wants_it(lines: list[dict[str, Any]]) -> None:
    with working_on(evaluation=7):
        is_for(searches=[1, 3])
        logging.getLogger("searcher.worker").warning("out of %s", "memory")
    logging.getLogger("searcher.worker").warning("idle")

    said = [(line["message"], line.get("evaluation"), line.get("searches")) for line in lines]
    assert said == [("out of memory", 7, [1, 3]), ("idle", None, None)]


@pytest.mark.parametrize(
    ("wanted", "is_terminal", "is_json"),
    [(None, True, False), (None, False, True), ("json", True, True), ("text", False, False)],
)
def test_lines_are_text_on_a_terminal_and_json_elsewhere_or_as_is_wanted(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, is_terminal: bool, is_json: bool
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.update(options))

    logs.start_logging("serve", wanted)

    line = given["handlers"][0].format(logging.LogRecord("a", logging.INFO, "", 0, "said %d", (5,), None))
    assert ("said 5" in line, line.startswith("{")) == (True, is_json)


def test_figures_are_asked_for_again_after_a_while(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert figure(figures(client), "quantrank_queue_depth") == 0
    search = client.post("/search", json=BODY | {"architectures": THREE[:1]}).json()
    play_worker(database, search["id"])
    with database.write() as session:
        session.execute(update(Evaluation).values(status="queued"))
    assert figure(figures(client), "quantrank_queue_depth") == 0
    later = metrics.time.monotonic() + metrics.POOL_SECONDS
    monkeypatch.setattr(metrics.time, "monotonic", lambda: later)
    assert figure(figures(client), "quantrank_queue_depth") == 1
