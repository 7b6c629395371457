"""The client: a method for each route, typed as the server's own answers are."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.client.errors import ServerError, Unreachable, error_of
from service.client.events import ENDING_EVENTS, SearchEvent, parse_events
from service.client.transport import TIMEOUT_SECONDS, Transport
from service.client.waiting import Waiting
from service.schemas import (
    CandidateList,
    CandidateView,
    EstimateView,
    EvaluationView,
    Health,
    LeaderboardView,
    Readiness,
    SearchList,
    SearchView,
    TaskList,
    TaskView,
    WorkerList,
    WorkerView,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Unpack

    from searcher.request import Limits, SearchRequest

_READ_SECONDS = 60.0
"""A stream in which nothing came for so long is dead: the server sends a comment every 15 seconds."""
_ENTRIES_A_PAGE = 1000

_Answer = TypeVar("_Answer", bound=BaseModel)
_Result = TypeVar("_Result")


class LeaderboardFilters(TypedDict, total=False):
    """Query parameters of both leaderboards; None is as good as absent."""

    block: str | None
    max_parameters: int | None
    max_model_bytes: int | None
    max_bit_operations: int | None
    sort: str | None


class Client:
    """Talks to one server; a context manager, and safe to share between threads.

    Every method raises ``Unreachable`` when nobody answers, ``Refused`` (by status: ``NotFound``, ``Conflict``, ...)
    with the server's problem document, or ``InvalidRequest``, an ``InvalidInput``, for a field that cannot be used.
    What changes nothing when it comes twice is tried again when the server does not answer; ``extend`` and ``delete``
    are not.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``key`` is for a server that asks for one; the rest is for tests.

        Raises:
            InvalidInput: when the URL is none.
        """
        self._transport, self._pause = Transport(url, key, transport, pause), pause

    @property
    def url(self) -> str:
        return self._transport.url

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.http.close()

    def is_up(self) -> bool:
        """Whether a quantrank server answers there."""
        return self.served_database() is not None

    def served_database(self) -> str | None:
        """The identity of the database that the quantrank server there serves, "" if it does not tell; None if no
        quantrank server answers.
        """
        try:
            response = self._transport.http.get("/healthz", timeout=2.0)
            told = response.json()
            if response.status_code == httpx.codes.OK and told.get("service") == "quantrank":
                return str(told.get("database") or "")
        except (httpx.HTTPError, ValueError, AttributeError):
            pass
        return None

    def health(self) -> Health:
        return self._get(Health, "/healthz", again=False)

    def ready(self) -> Readiness:
        """Raises Refused, with status 503, while the server is not ready."""
        return self._get(Readiness, "/readyz", again=False)

    def metrics(self) -> str:
        """What Prometheus collects, in its text format."""
        return self._file("/metrics", {}).decode()

    def tasks(self) -> list[TaskView]:
        return self._get(TaskList, "/tasks").tasks

    def workers(self) -> Iterator[WorkerView]:
        """Workers by host and device, page by page."""
        for page in self._pages(WorkerList, "/workers", {}):
            yield from page.workers

    def post_search(self, request: SearchRequest | Mapping[str, Any], key: str | None = None) -> SearchView:
        """Posts a search; under the same Idempotency-Key (``key``; one of its own if not given) it is one search."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self._post(SearchView, "/search", _values(request), headers=headers, again=True)

    def estimate(
        self, request: SearchRequest | Mapping[str, Any], *, workers: int | None = None, listed: int | None = None
    ) -> EstimateView:
        """What a search would cost; nothing is stored."""
        params = _given(workers=workers, listed=listed)
        return self._post(EstimateView, "/search/estimate", _values(request), params=params, again=True)

    def searches(self, *, status: str | None = None, task: str | None = None) -> Iterator[SearchView]:
        """Searches, newest first, page by page."""
        for page in self._pages(SearchList, "/searches", _given(status=status, task=task, limit=100)):
            yield from page.searches

    def search(self, search_id: int) -> SearchView:
        return self._get(SearchView, f"/searches/{search_id}")

    def cancel(self, search_id: int) -> SearchView:
        return self._post(SearchView, f"/searches/{search_id}/cancel", None, again=True)

    def extend(self, search_id: int, limits: Limits | Mapping[str, Any]) -> SearchView:
        """Gives a search the limits that are named. Not tried again: a time limit counts from when it is given."""
        return self._post(SearchView, f"/searches/{search_id}/extend", _values(limits), again=False)

    def delete(self, search_id: int) -> None:
        """Removes an ended search; one that runs is a Conflict."""
        self._transport.request("DELETE", f"/searches/{search_id}", again=False)

    def candidates(self, search_id: int) -> Iterator[CandidateView]:
        """A search's candidates in their order, page by page."""
        for page in self._pages(CandidateList, f"/searches/{search_id}/candidates", {}):
            yield from page.candidates

    def search_leaderboard(
        self,
        search_id: int,
        *,
        rung: int | None = None,
        limit: int | None = None,
        **filters: Unpack[LeaderboardFilters],
    ) -> LeaderboardView:
        """A search's leaderboard, or a rung's; whole, or no more than ``limit`` entries."""
        return self._leaderboard(f"/searches/{search_id}/leaderboard", limit, _given(rung=rung, **filters))

    def leaderboard(
        self,
        task: str,
        *,
        recipe: str | None = None,
        bit_widths: str | None = None,
        search: int | None = None,
        limit: int | None = None,
        **filters: Unpack[LeaderboardFilters],
    ) -> LeaderboardView:
        """The leaderboard of a task over all searches; whole, or no more than ``limit`` entries."""
        params = _given(task=task, recipe=recipe, bit_widths=bit_widths, search=search, **filters)
        return self._leaderboard("/leaderboard", limit, params)

    def evaluation(self, evaluation_id: int) -> EvaluationView:
        return self._get(EvaluationView, f"/evaluations/{evaluation_id}")

    def model(self, evaluation_id: int, *, bit_widths: str | None = None, stage: str | None = None) -> bytes:
        """A trained network as the content of a safetensors file."""
        return self._file(f"/evaluations/{evaluation_id}/model", _given(bit_widths=bit_widths, stage=stage))

    def onnx_model(
        self, evaluation_id: int, *, bit_widths: str | None = None, stage: str | None = None, with_codes: bool = False
    ) -> bytes:
        """A trained network as the content of an ONNX file."""
        params = _given(bit_widths=bit_widths, stage=stage, with_codes=with_codes or None)
        return self._file(f"/evaluations/{evaluation_id}/model.onnx", params)

    def events(
        self, search_id: int, after: int = 0, *, while_away: Callable[[float, str], None] | None = None
    ) -> Iterator[SearchEvent]:
        """A search's events after one of them, and its progress, to its end, however long the server is away meanwhile.

        Args:
            search_id: the search's number.
            after: the id of the last event that is known already.
            while_away: told, before every further try, for how many seconds the server has not answered, and why; what
                it raises ends the events.

        Raises:
            Refused: when the server does not tell them: the search is deleted, say, or the key revoked.
        """
        seen, waiting = after, Waiting(self._pause, while_away)
        while True:
            try:
                for event in self._stream(search_id, seen):
                    waiting.answered()
                    seen = event.id or seen
                    yield event
                    if event.kind in ENDING_EVENTS:
                        search = waiting.result_of(lambda: self.search(search_id))
                        if search.status != "running":  # nor extended since
                            return
                told = Unreachable(f"{self.url} ended the stream before the search")
            except httpx.RequestError as error:
                told = Unreachable(f"{self.url} does not answer ({error})")
            except ServerError as error:
                waiting.sit_out(error)
                continue
            waiting.sit_out(told)

    def patiently(self, call: Callable[[], _Result], while_away: Callable[[float, str], None] | None = None) -> _Result:
        """What a call of this client returns once the server answers it; ``while_away`` is as that of ``events``."""
        return Waiting(self._pause, while_away).result_of(call)

    def _stream(self, search_id: int, seen: int) -> Iterator[SearchEvent]:
        headers, timeout = {"Last-Event-ID": str(seen)}, httpx.Timeout(TIMEOUT_SECONDS, read=_READ_SECONDS)
        path = f"/searches/{search_id}/events"
        with self._transport.http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.is_error:
                response.read()
                raise error_of(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Unreachable(f"{self.url} answers with something else than events")  # a proxy's page
            yield from parse_events(response.iter_lines())

    def _leaderboard(self, path: str, limit: int | None, params: dict[str, Any]) -> LeaderboardView:
        if limit is not None:
            return self._get(LeaderboardView, path, params | {"limit": limit})
        first, *rest = self._pages(LeaderboardView, path, params | {"limit": _ENTRIES_A_PAGE})
        entries = [*first.entries, *(entry for page in rest for entry in page.entries)]
        return first.model_copy(update={"entries": entries, "next": None})

    def _pages(self, answer: type[_Answer], path: str, params: dict[str, Any]) -> Iterator[_Answer]:
        page = self._get(answer, path, params)
        yield page
        while following := getattr(page, "next"):  # noqa: B009  every page has it
            page = self._get(answer, following)
            yield page

    def _get(
        self, answer: type[_Answer], path: str, params: Mapping[str, Any] | None = None, *, again: bool = True
    ) -> _Answer:
        return self._read(answer, self._transport.request("GET", path, params=params or None, again=again))

    def _post(
        self,
        answer: type[_Answer],
        path: str,
        values: Mapping[str, Any] | None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool,
    ) -> _Answer:
        response = self._transport.request("POST", path, params=params, json=values, headers=headers, again=again)
        return self._read(answer, response)

    def _file(self, path: str, params: Mapping[str, Any]) -> bytes:
        return self._transport.request("GET", path, params=params, again=True).content

    def _read(self, answer: type[_Answer], response: httpx.Response) -> _Answer:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            if "application/json" not in response.headers.get("content-type", ""):
                raise Unreachable(f"{self.url} is no quantrank server: its answer is not JSON") from None
            told = f"{response.url} answers as another release does ({error.error_count()} fields are not as expected)"
            raise ServerError(f"{told}; use the client of the server's release") from None


def _values(request: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    return request.model_dump(mode="json", exclude_unset=True) if isinstance(request, BaseModel) else request


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
