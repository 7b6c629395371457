"""What can go wrong between a client and a server: exceptions that carry the server's problem document (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from qcore import InvalidInput
from service.problems import Problem

if TYPE_CHECKING:
    import httpx


class ServerError(Exception):
    """The server could not be reached, or answered with an error that is no fault of the request's fields."""

    exit_status = 1
    """Of a command that this ends."""


class Unreachable(ServerError):  # noqa: N818  a state of affairs
    """Nobody answers, or somebody else does."""


class Refused(ServerError):  # noqa: N818  an answer
    """The server answered with a problem."""

    def __init__(self, url: str, problem: Problem, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{url}: {problem.detail}")
        self.problem = problem
        self.status = problem.status
        self.retry_after_seconds = retry_after_seconds
        """When the server says that asking again may help."""


class Unauthorized(Refused):
    """401: no key, or one that is not accepted."""


class Forbidden(Refused):
    """403: not this key's to do."""


class NotFound(Refused):
    """404: there is no such thing."""


class Conflict(Refused):
    """409: not as things are; the problem's detail says what to do first."""


class TooManyRequests(Refused):
    """429: later."""


class InvalidRequest(InvalidInput):
    """422 or 413: a field that cannot be used, the first if there are several."""

    def __init__(self, document: Problem) -> None:
        first = document.errors[0]
        super().__init__(first.field, first.value, first.problem, first.remedy)
        self.document = document


_BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
}


def error_of(response: httpx.Response) -> ServerError | InvalidRequest:
    """The exception that an answer with an error status, which has been read, stands for."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # a proxy's, or another program's
        return Unreachable(f"{response.url} answered {response.status_code}")
    if problem.status in (413, 422) and problem.errors:
        return InvalidRequest(problem)
    return _BY_STATUS.get(problem.status, Refused)(str(response.url), problem, retry_after_seconds(response))


def retry_after_seconds(response: httpx.Response) -> float | None:
    """What the server says of when to ask again, if it says it in seconds."""
    told = response.headers.get("retry-after", "")
    return float(told) if told.isascii() and told.isdigit() else None
