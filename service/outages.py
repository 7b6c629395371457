"""What a request finds where the database or the disk cannot do their part now: that is no fault of the server's code,
and the answer says what to do and when to come again."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from fastapi.responses import Response
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from searcher.deadline import DeadlinePassed
from searcher.outages import is_away, is_busy, is_full
from service.lanes import MOST_WAIT_SECONDS, ClientLeft, NoTurn, Stopping
from service.problems import Problem, respond

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "3"}
"""Sooner than ``quantrank serve`` closes a connection that nothing is asked on: clients come again by the same."""
_CLIENT_LEFT = 499
"""As Nginx calls it; nobody reads it but the log."""

KINDS: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, NoTurn, Stopping, ClientLeft, DeadlinePassed)
"""Exceptions that may mean an outage."""


def install(app: FastAPI) -> None:
    """Answers outages in an app's routes."""
    for kind in KINDS:
        app.add_exception_handler(kind, _answer)


async def _answer(_request: Request, error: Exception) -> Response:
    answer = answer_to(error)
    if answer is None:
        raise error
    return answer


def answer_to(error: Exception) -> Response | None:
    """The answer to a request that an error ended; None where it is no outage."""
    if isinstance(error, ClientLeft):
        return Response(status_code=_CLIENT_LEFT)
    if isinstance(error, NoTurn | DeadlinePassed):
        waited = f"The server has more to do than it can in {MOST_WAIT_SECONDS:.0f} seconds"
        return _unavailable(f"{waited}; nothing was stored, ask again in a moment")
    if isinstance(error, Stopping):
        done = "whether this was done is not known" if error.was_begun else "nothing was stored"
        return _unavailable(f"The server is being stopped; {done}, ask whoever answers next")
    if isinstance(error, NoConnection) or (isinstance(error, DBAPIError) and is_busy(error)):
        return _unavailable("The database is busy with what others write; nothing was stored, ask again in a moment")
    if _is_disk_full(error):
        log.error("a disk is full: %s", error)
        detail = (
            "There is no room left where the server stores things; nothing was stored. Free some there: `quantrank gc` "
            "removes what no result needs"
        )
        return respond(Problem(title="Insufficient Storage", status=507, detail=detail))
    if isinstance(error, DBAPIError) and is_away(error):
        return _unavailable("The database does not answer; start it, or ask again in a moment")
    return None


def _unavailable(detail: str) -> Response:
    return respond(Problem(title="Service Unavailable", status=503, detail=detail), RETRY_AFTER)


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, DBAPIError) and is_full(error)
