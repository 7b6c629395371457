"""Lanes: where requests do what takes a thread, each kind on threads of its own.

A request waits for its turn in the event loop and holds nothing meanwhile: no thread, no connection, no lock. What it
then does is one call on one thread, with its transactions inside: whoever holds a lock waits for nobody's thread. So
what fills one lane stops no other, and health checks answer whatever happens.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from searcher.deadline import Deadline, waited_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from starlette.types import Receive

P = ParamSpec("P")
R = TypeVar("R")

MOST_WAIT_SECONDS = 30.0
"""How long a request waits for its turns, and the database's locks in them, altogether."""


class Lane(StrEnum):
    """What a call is, as to whom it may hold up."""

    WRITES = "writes"
    """Changes something."""
    READS = "reads"
    """Reads what is stored, in well below a second."""
    PLANNING = "planning"
    """Computes: what a search would try and cost."""
    FILES = "files"
    """Reads from the store, which may be far away."""
    MEASURING = "measuring"
    """Waits for a process that measures a network."""
    ACCESS = "access"
    """Looks up who asks, before anything else."""
    FEED = "feed"
    """Reads what happens to searches, for those who watch."""
    METRICS = "metrics"
    STATIC = "static"
    HEALTH = "health"


_THREADS = {
    Lane.READS: 8,
    Lane.PLANNING: 2,
    Lane.FILES: 4,
    Lane.MEASURING: 2,
    Lane.ACCESS: 4,
    Lane.FEED: 2,
    Lane.METRICS: 1,
    Lane.STATIC: 1,
    Lane.HEALTH: 2,
}
_WRITING_THREADS = 4
"""On PostgreSQL. On SQLite one transaction writes at a time, and the others wait better without a thread."""


class NoTurn(Exception):  # noqa: N818  it is an answer
    """It did not come to be a request's turn in time. Nothing of it was done."""


class Stopping(Exception):  # noqa: N818  it is an answer
    """The server ends, and waits no longer."""

    def __init__(self, *, was_begun: bool) -> None:
        """``was_begun`` says that the call runs, and may yet be done before the process ends."""
        super().__init__(was_begun)
        self.was_begun = was_begun


class ClientLeft(Exception):  # noqa: N818  a state of affairs, not a fault
    """Whoever asked has gone before it was their turn."""


class Lanes:
    """The lanes of one app. Safe to use from any event loop."""

    def __init__(self, *, one_writer: bool) -> None:
        """Threads start when they are needed. ``one_writer`` says that the database takes one at a time anyway."""
        threads = {Lane.WRITES: 1 if one_writer else _WRITING_THREADS, **_THREADS}
        self._pools = {lane: ThreadPoolExecutor(count, f"{lane}") for lane, count in threads.items()}
        self._jobs: set[Future[Any]] = set()

    async def run(self, lane: Lane, call: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
        """What a call returns, or raises, in its turn; it is waited for however long it takes.

        Whoever is cancelled gives up the turn; a call that runs goes on then, and nobody hears what comes of it.
        """
        job = self.submit(lane, functools.partial(call, *given, **named))
        try:
            return await asyncio.wrap_future(job)
        finally:
            job.cancel()

    def submit(self, lane: Lane, call: Callable[[], R]) -> Future[R]:
        """Puts a call last in a lane. To cancel the future takes it out again, unless it runs."""
        job = self._pools[lane].submit(copy_context().run, call)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    def close(self) -> bool:
        """Takes out what waits, and tells whether something still runs, which nothing can end but the process's end."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        return any(not job.done() for job in list(self._jobs))


class Turns:
    """A request's turns, with one deadline for all of them."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes, self._deadline = lanes, Deadline(MOST_WAIT_SECONDS)
        self.receive: Receive | None = None
        """What tells that the client leaves, once the request's body was read."""

    async def take(self, lane: Lane, call: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
        """What a call returns, or raises, in its turn.

        It is told until when it is waited for (``searcher.deadline``), and, unless it writes, when its client leaves.

        Raises:
            NoTurn: when its turn did not come in time.
            Stopping: when the server ends before the call does.
            ClientLeft: when whoever asked left before.
        """

        def called() -> R:
            with waited_for(self._deadline):
                return call(*given, **named)

        job = self._lanes.submit(lane, called)
        ended = asyncio.wrap_future(job)
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.receive is not None:
            left = asyncio.ensure_future(_disconnected(self.receive))
        try:
            first: set[asyncio.Future[Any]] = {ended, left}
            await asyncio.wait(first, timeout=self._deadline.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                if job.cancel():
                    raise ClientLeft if left.done() else NoTurn
                if left.done() and lane is not Lane.WRITES:  # what may be stored already is not given up
                    self._deadline.leave()
            return await ended
        except asyncio.CancelledError:
            raise Stopping(was_begun=not job.cancel()) from None
        finally:
            job.cancel()
            left.cancel()


async def _disconnected(receive: Receive) -> None:
    """Returns when the client leaves. Whatever it still sends belongs to a body that nobody reads."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except HTTPException:  # it sends more than any request may
        await asyncio.Event().wait()


def turns_of(request: Request) -> Turns:
    """A request's turns, the same for all that works on it."""
    turns: Turns | None = getattr(request.state, "turns", None)
    if turns is None:
        turns = request.state.turns = Turns(request.app.state.lanes)
    return turns


async def _turns(request: Request) -> Turns:
    turns = turns_of(request)
    turns.receive = request.receive
    return turns


TurnsOf = Annotated[Turns, Depends(_turns)]


def in_lane(lane: Lane) -> Callable[[Callable[P, R]], Callable[..., Coroutine[Any, Any, R | Response]]]:
    """Has a route's function, which may block, run in a lane. What it returns is written there too.

    Its transactions are its own: they begin and end inside it.
    """

    def laned(endpoint: Callable[P, R]) -> Callable[..., Coroutine[Any, Any, R | Response]]:
        @functools.wraps(endpoint)
        async def route(turns_: Turns, **given: Any) -> R | Response:
            return await turns_.take(lane, functools.partial(written, **given))

        def written(*given: P.args, **named: P.kwargs) -> R | Response:
            found = endpoint(*given, **named)
            return as_json(found) if isinstance(found, BaseModel) else found

        signature = inspect.signature(endpoint)
        own = inspect.Parameter("turns_", inspect.Parameter.KEYWORD_ONLY, annotation=TurnsOf)
        route.__signature__ = signature.replace(parameters=[*signature.parameters.values(), own])  # type: ignore[attr-defined]
        return route

    return laned


def as_json(view: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer, written where it is called: a large one is not to hold up the event loop."""
    return Response(view.model_dump_json(by_alias=True), status, headers, media_type="application/json")


def in_loop(build: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Has a dependency that only computes run in the event loop, for which FastAPI would take a thread."""

    @functools.wraps(build)
    async def built(*given: P.args, **named: P.kwargs) -> R:
        return build(*given, **named)

    built.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
    return built
