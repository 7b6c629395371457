"""The typed client: every route, problems as exceptions, and another try only where that is safe."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import serving
from playing import play_worker, rows

from qcore import InvalidInput
from searcher.database import Database
from searcher.request import Limits, SearchRequest
from searcher.tables import Search, Worker
from service.app import create_app
from service.client import (
    Client,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Refused,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from service.problems import Problem
from service.settings import Settings

BODY = {"task": "digits", "parameter_budget": 20_000, "bit_widths": ["W2A2"], "architectures": ["basic-L8-D3"]}


@pytest.fixture
def client(sqlite_database: Database, tmp_path: Path) -> Iterator[Client]:
    app = create_app(Settings(home=tmp_path, database_url=None), sqlite_database)
    with serving(app) as url, Client(url) as client:
        yield client


def answering(*answers: httpx.Response | Exception) -> tuple[Client, list[httpx.Request], list[float]]:
    """A client of a server that gives these answers in turn, what it was asked, and the client's pauses."""
    left, asked, pauses = list(answers), [], []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return Client("http://server", transport=httpx.MockTransport(answer), pause=pauses.append), asked, pauses


def problem(status: int, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    document = Problem(title="No", status=status, detail="why and what to do", **fields)
    return httpx.Response(status, headers=headers, json=document.model_dump())


def test_a_search_is_posted_watched_ranked_and_deleted(client: Client, sqlite_database: Database) -> None:
    estimated = client.estimate(BODY, workers=3)
    search = client.post_search(SearchRequest(**BODY))
    (number,) = play_worker(sqlite_database, search.id)
    kinds = [event.kind for event in client.events(search.id)]
    later = [event for event in client.events(search.id, after=10**6) if event.id is not None]
    evaluation = client.evaluation(number)
    ended = client.search(search.id)

    assert (estimated.candidates, estimated.workers) == (1, 3)
    assert (search.status, ended.status, ended.ended_by) == ("running", "finished", "complete")
    assert (kinds[0], kinds[-1]) == ("progress", "search_finished")
    assert later[-1].kind == "search_finished"
    assert [each.costs.architecture for each in client.candidates(search.id)] == ["basic-L8-D3"]
    assert [entry.architecture for entry in client.search_leaderboard(search.id).entries] == ["basic-L8-D3"]
    assert client.leaderboard("digits", bit_widths="W2A2", max_parameters=10).entries == []
    assert [stage.bit_widths for stage in evaluation.stages] == ["float", "W2A2"]
    assert client.delete(search.id) is None
    assert list(client.searches()) == []
    assert (client.is_up(), client.health().service, client.ready().status) == (True, "quantrank", "ready")
    assert "digits" in [task.name for task in client.tasks()]
    assert "quantrank_queue_depth 0.0" in client.metrics()


def test_searches_are_extended_and_cancelled(client: Client) -> None:
    search = client.post_search(BODY)

    assert client.extend(search.id, Limits(max_evaluations=5)).max_evaluations == 5
    assert client.extend(search.id, {"max_evaluations": None}).max_evaluations is None
    assert client.cancel(search.id).status == client.cancel(search.id).status == "cancelled"
    assert [each.id for each in client.searches(status="cancelled", task="digits")] == [search.id]
    assert list(client.searches(status="running")) == []


def test_lists_are_followed_page_by_page(client: Client, sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        session.add_all(
            Worker(id=f"{index}", host="a", pid=1, device="cpu", cores=1, threads=1, versions={}, lease_seconds=9)
            for index in range(1001)
        )
    names = [f"basic-L8-D{width}" for width in range(3, 8)]
    search = client.post_search(BODY | {"architectures": names})
    play_worker(sqlite_database, search.id)

    assert len(list(client.workers())) == 1001
    assert len(client.search_leaderboard(search.id).entries) == 5
    assert len(client.search_leaderboard(search.id, limit=2).entries) == 2


def test_pages_of_a_leaderboard_become_one(client: Client, sqlite_database: Database, monkeypatch: Any) -> None:
    monkeypatch.setattr("service.client.client._ENTRIES_A_PAGE", 2)
    names = [f"basic-L8-D{width}" for width in range(3, 8)]
    search = client.post_search(BODY | {"architectures": names})
    play_worker(sqlite_database, search.id)

    whole = client.search_leaderboard(search.id, sort="-parameters")

    assert [entry.architecture for entry in whole.entries] == names[::-1]
    assert (whole.total, whole.next) == (5, None)


def test_every_route_has_a_method(client: Client) -> None:
    described = httpx.get(f"{client.url}/openapi.json").json()["paths"]
    source = inspect.getsource(inspect.getmodule(Client) or Client)
    used = {re.sub(r"\{[^}]*\}", "{}", path) for path in re.findall(r'f?"(/[a-z][^"]*)"', source)}

    assert {re.sub(r"\{[^}]*\}", "{}", path) for path in described} <= used


def test_problems_are_exceptions_that_carry_their_document(client: Client) -> None:
    with pytest.raises(NotFound) as missing:
        client.search(99)
    with pytest.raises(InvalidRequest) as invalid:
        client.post_search(BODY | {"parameter_budget": 1})
    search = client.post_search(BODY)
    with pytest.raises(Conflict) as running:
        client.delete(search.id)

    assert (missing.value.status, missing.value.problem.title) == (404, "Not Found")
    assert "search 99 does not exist" in str(missing.value)
    assert isinstance(invalid.value, InvalidInput)
    assert (invalid.value.field, invalid.value.document.status) == ("architectures", 422)
    assert f"POST /searches/{search.id}/cancel first" in running.value.problem.detail


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (404, NotFound), (409, Conflict), (429, TooManyRequests), (500, Refused)],
)
def test_a_problem_is_the_exception_of_its_status_and_is_not_asked_for_again(status: int, kind: type[Refused]) -> None:
    client, asked, _ = answering(problem(status))

    with pytest.raises(kind, match="why and what to do") as refused:
        client.search(1)

    assert type(refused.value) is kind
    assert refused.value.problem.status == status
    assert len(asked) == 1


GONE = httpx.ConnectError("connection refused")
CUT = httpx.RemoteProtocolError("server disconnected")


def safe(client: Client) -> list[Callable[[], Any]]:
    return [
        client.tasks,
        lambda: client.search(1),
        lambda: client.cancel(1),
        lambda: client.estimate(BODY),
        lambda: client.post_search(BODY),
        lambda: client.model(1),
        lambda: client.leaderboard("digits"),
    ]


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("failure", [GONE, CUT, problem(503), problem(502), httpx.Response(504, text="gateway")])
def test_what_is_safe_is_tried_again_and_not_forever(index: int, failure: Any) -> None:
    client, asked, pauses = answering(failure, failure, failure, failure)

    with pytest.raises(ServerError):
        safe(client)[index]()

    assert (len(asked), len(pauses)) == (3, 2)
    assert len({(each.method, each.url, each.content) for each in asked}) == 1


def test_a_search_that_is_posted_again_has_the_same_idempotency_key(
    client: Client, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, keys = client._transport.http.request, []

    def answer_is_lost(*arguments: Any, **options: Any) -> httpx.Response:
        keys.append(options["headers"]["Idempotency-Key"])
        answered = request(*arguments, **options)
        if len(keys) == 1:
            raise CUT
        return answered

    monkeypatch.setattr(client._transport.http, "request", answer_is_lost)
    search = client.post_search(BODY)

    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert [each.id for each in rows(sqlite_database, Search)] == [search.id]


@pytest.mark.parametrize("call", [lambda each: each.extend(1, {}), lambda each: each.delete(1)])
@pytest.mark.parametrize("failure", [CUT, problem(503)])
def test_what_may_have_been_done_is_not_done_again(call: Callable[[Client], Any], failure: Any) -> None:
    client, asked, _ = answering(failure)

    with pytest.raises(ServerError):
        call(client)

    assert len(asked) == 1


def test_a_server_that_says_when_is_asked_again_then() -> None:
    client, asked, pauses = answering(problem(429, {"Retry-After": "3"}), httpx.Response(200, json={"tasks": []}))
    assert client.tasks() == []
    assert (len(asked), pauses) == (2, [3.0])

    client, asked, pauses = answering(problem(429, {"Retry-After": "3600"}))
    with pytest.raises(TooManyRequests) as refused:
        client.tasks()
    assert (len(asked), pauses, refused.value.retry_after_seconds) == (1, [], 3600.0)


def test_another_program_is_no_server() -> None:
    for answer in (httpx.Response(200, text="<html>"), httpx.Response(404, text="nginx")):
        client, _, _ = answering(answer)
        with pytest.raises(Unreachable):
            client.search(1)
        assert not answering(answer)[0].is_up()
    client, _, _ = answering(httpx.Response(200, json={"id": 1}))
    with pytest.raises(ServerError, match="another release"):
        client.search(1)
    with pytest.raises(InvalidInput, match="is not a server's URL"):
        Client("server:8000")


def stream(*events: tuple[int, str]) -> httpx.Response:
    blocks = [f"id: {number}\nevent: {kind}\ndata: {json.dumps({'n': number})}\n\n" for number, kind in events]
    content = ": ping\n\n" + "".join(blocks)
    return httpx.Response(200, text=content, headers={"content-type": "text/event-stream"})


def test_a_stream_that_breaks_goes_on_where_it_broke(client: Client) -> None:
    ended = client.cancel(client.post_search(BODY).id).model_dump(mode="json")
    watching, asked, pauses = answering(
        stream((3, "a"), (5, "b")), GONE, stream((7, "search_cancelled")), httpx.Response(200, json=ended)
    )

    found = list(watching.events(1))

    assert [(event.id, event.kind, event.data) for event in found] == [
        (3, "a", {"n": 3}),
        (5, "b", {"n": 5}),
        (7, "search_cancelled", {"n": 7}),
    ]
    assert [each.headers.get("last-event-id") for each in asked] == ["0", "5", "5", None]
    assert len(pauses) == 2


AWAY = [
    *(GONE, CUT, httpx.ReadTimeout("nothing came"), stream()),
    *(httpx.Response(status, text="proxy") for status in (200, 404, 502, 503, 504)),
    *(problem(status) for status in (429, 500, 502, 503, 504)),
]


def test_a_stream_goes_on_however_long_and_in_whatever_way_the_server_is_away(client: Client) -> None:
    ended = httpx.Response(200, json=client.cancel(client.post_search(BODY).id).model_dump(mode="json"))
    watching, asked, pauses = answering(
        stream((3, "a")), *AWAY * 20, stream((7, "search_cancelled")), *[problem(503)] * 9, GONE, ended
    )
    told: list[str] = []

    found = list(watching.events(1, while_away=lambda _, reason: told.append(reason)))

    assert [event.id for event in found] == [3, 7]
    assert {each.headers.get("last-event-id") for each in asked[1 : 20 * len(AWAY) + 2]} == {"3"}
    assert max(pauses) == 5
    assert len(told) >= 20 * len(AWAY)
    assert any("connection refused" in reason for reason in told)


def test_a_stream_pauses_as_long_as_the_server_asks() -> None:
    watching, _, pauses = answering(
        problem(503, {"Retry-After": "20"}), problem(503, {"Retry-After": "3600"}), problem(404)
    )
    with pytest.raises(NotFound):
        list(watching.events(1))
    assert pauses == [20, 60]


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_a_stream_that_is_refused_ends_at_once(status: int) -> None:
    watching, asked, _ = answering(GONE, problem(status))
    with pytest.raises(Refused):
        list(watching.events(1))
    assert len(asked) == 2


def test_who_watches_may_give_up() -> None:
    watching, asked, _ = answering(*[GONE] * 50)

    def give_up(seconds: float, reason: str) -> None:
        if len(asked) == 3:
            raise ServerError(reason)

    with pytest.raises(ServerError, match="connection refused"):
        list(watching.events(1, while_away=give_up))


def test_a_call_is_made_until_it_is_answered() -> None:
    patient, asked, _ = answering(*[GONE] * 9, problem(503), httpx.Response(200, json={"tasks": []}))
    assert patient.patiently(patient.tasks) == []
    assert len(asked) == 11
