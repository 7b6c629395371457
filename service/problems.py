"""Errors as ``application/problem+json`` (RFC 9457), each naming the field, the value and the remedy."""

from __future__ import annotations

import json
import logging
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from qcore import InvalidInput
from qcore.errors import in_a_line
from qcore.wording import did_you_mean, fault, wanted
from searcher.allowances import BeyondAllowance, TooManyRunning
from searcher.log_context import log_context
from service.known_fields import known_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastapi import FastAPI, Request

log = logging.getLogger(__name__)

_MOST_VALUE_CHARACTERS = 200
_MOST_ERRORS = 20
_BRANCHES = ("dict[", "list[", "constrained-", "function-", "literal[")
_TYPES = ("str", "int", "float", "bool")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ALLOWANCES = {
    BeyondAllowance: (403, "This key may not ask for so much"),
    TooManyRunning: (429, "Too many searches are running"),
}


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str
    value: Any
    problem: str
    remedy: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How the API's description tells that a route answers with problems of these statuses."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


PROBLEM_RESPONSES = problem_responses(400, 401, 403, 404, 422, 429)


class NotFound(HTTPException):
    """No such thing; says where to look."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(404, f"{what} does not exist; {remedy}")


class Forbidden(HTTPException):
    """Not this caller's to do; says whose."""

    def __init__(self, detail: str) -> None:
        super().__init__(403, detail)


class TooLarge(HTTPException):
    """More was sent than any request needs."""

    def __init__(self, told_bytes: int | None, most_bytes: int) -> None:
        """``told_bytes`` is None of a body that does not say how large it is."""
        shown = f"more than {most_bytes} bytes" if told_bytes is None else f"{told_bytes} bytes"
        told = FieldProblem(
            field="body",
            value=shown,
            problem="is too large",
            remedy=f"send at most {most_bytes} bytes; blocks, depths and widths say in few words what long lists of "
            "architectures would",
        )
        super().__init__(413, f"body: {shown} is too large; {told.remedy}")
        self.problem = Problem(title="Content Too Large", status=413, detail=self.detail, errors=[told])


class Conflict(HTTPException):
    """Not possible as things are; says what to do first."""

    def __init__(self, detail: str) -> None:
        super().__init__(409, detail)


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem document."""
    app.add_exception_handler(InvalidInput, _invalid_input)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def respond(problem: Problem, headers: Any = None) -> Response:
    """The answer that tells a problem."""
    # Escaped to ASCII: what a client sent may hold characters that no encoding takes.
    content = json.dumps(problem.model_dump(), allow_nan=False)
    return Response(content, problem.status, headers, media_type="application/problem+json")


async def _invalid_input(_request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidInput)
    told = FieldProblem(
        field=error.field, value=_shown(error.value), problem=error.problem, remedy=_shortened(error.remedy, 2000)
    )
    for kind, (status, title) in _ALLOWANCES.items():
        if isinstance(error, kind):
            return respond(Problem(title=title, status=status, detail=_detail([told]), errors=[told]))
    return respond(_unprocessable([told]))


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # An answer is no longer than a page, however much of a request is wrong.
    return respond(_unprocessable(list(_field_problems(error.errors()[:_MOST_ERRORS], request))))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, TooLarge):
        return respond(error.problem)
    title, detail, headers = HTTPStatus(error.status_code).phrase, str(error.detail), error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_allowed_methods(request))  # of all routes of the path; Starlette names those of one
        detail, headers = f"{request.method} is not for this path; use {allowed}", {"Allow": allowed}
    return respond(Problem(title=title, status=error.status_code, detail=detail), headers)


def _allowed_methods(request: Request) -> list[str]:
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    # Mounted folders match whatever method, and answer GET.
    routes = [route for route in request.app.router.routes if not isinstance(route, Mount)]
    found = [
        method for method, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]
    return ["GET", "HEAD", *(each for each in found if each != "GET")] if "GET" in found or not found else found


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    under = log_context().get("request_id", "")
    detail = f"This is a fault of the server; its log says more, of request {under}. Nothing was stored."
    return respond(Problem(title="Internal Server Error", status=500, detail=detail))


def _unprocessable(errors: list[FieldProblem]) -> Problem:
    return Problem(title="The request cannot be used as it is", status=422, detail=_detail(errors), errors=errors)


def _detail(errors: list[FieldProblem]) -> str:
    return " / ".join(in_a_line(each.field, each.value, each.problem, each.remedy) for each in errors[:5])


def _field_problems(errors: Sequence[Any], request: Request) -> Iterator[FieldProblem]:
    """One for each field: what pydantic says of alternatives for the same one becomes one remedy."""
    of_fields: dict[str, list[Any]] = {}
    for error in errors:
        of_fields.setdefault(_field(error), []).append(error)
    for field, found in of_fields.items():
        yield _field_problem(field, found, request)


def _field(error: Any) -> str:
    # A union's branches are named in the location; users know the field alone.
    location = [str(part) for part in error["loc"]]
    path = [part for part in location[1:] if part not in _TYPES and not part.startswith(_BRANCHES)]
    return _shortened(".".join(path) or location[0], 200)


def _field_problem(field: str, errors: list[Any], request: Request) -> FieldProblem:
    error = errors[0]
    kind, value = error["type"], _shown(error.get("input"))
    if kind == "json_invalid":
        return FieldProblem(
            field="body", value=None, problem=f"is not JSON ({error['ctx']['error']})", remedy="send a JSON object"
        )
    if kind == "missing":
        return FieldProblem(field=field, value=None, problem="is missing", remedy="add it")
    if kind == "extra_forbidden":
        meant = did_you_mean(error["loc"][-1], known_fields(request, error["loc"])) or "leave it out"
        return FieldProblem(field=field, value=value, problem="is not a known field", remedy=meant)
    if kind == "too_short" and error.get("ctx", {}).get("actual_length") == 0:
        return FieldProblem(field=field, value=[], problem="is empty", remedy="name at least one, or leave it out")
    if len(error["loc"]) == 1:
        remedy = "send a JSON object, with content-type: application/json"
        return FieldProblem(field="body", value=value, problem="is not a JSON object", remedy=remedy)
    remedy = " or ".join(dict.fromkeys(map(wanted, errors)))
    if isinstance(value, str) and kind in ("literal_error", "enum"):
        there = str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        remedy = "; ".join(filter(None, (remedy, did_you_mean(value, there))))
    return FieldProblem(field=field, value=value, problem=fault(error), remedy=f"give {remedy}")


def _shown(value: object) -> object:
    """A value as it can stand in JSON, at a readable length."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else "an integer beyond 2^53"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        value = value[: 4 * _MOST_VALUE_CHARACTERS].decode(errors="replace")
    return _shortened(value if isinstance(value, str) else repr(value), _MOST_VALUE_CHARACTERS)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
