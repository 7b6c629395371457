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
from searcher.allowances import BeyondAllowance, TooManyRunning
from searcher.log_context import log_context

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger(__name__)

_MOST_VALUE_CHARACTERS = 200
_MOST_ERRORS = 20
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


async def _invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # An answer is no longer than a page, however much of a request is wrong.
    return respond(_unprocessable([_field_problem(each) for each in error.errors()[:_MOST_ERRORS]]))


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
    return " / ".join(f"{each.field}: {each.value!r} {each.problem}; {each.remedy}" for each in errors[:5])


def _field_problem(error: Any) -> FieldProblem:
    kind, location = error["type"], [str(part) for part in error["loc"]]
    # A union's branches are named in the location; users know the field alone.
    path = [part for part in location[1:] if not part.startswith(("dict[", "constrained-", "function-"))]
    field = _shortened(".".join(path) or location[0], 200)
    if kind == "json_invalid":
        return FieldProblem(
            field="body", value=None, problem=f"is not JSON ({error['ctx']['error']})", remedy="send a JSON object"
        )
    if kind == "missing":
        return FieldProblem(field=field, value=None, problem="is missing", remedy="add it")
    if kind == "extra_forbidden":
        return FieldProblem(
            field=field, value=_shown(error["input"]), problem="is not a known field", remedy="leave it out"
        )
    if kind == "too_short":
        return FieldProblem(field=field, value=[], problem="is empty", remedy="name at least one, or leave it out")
    if not path:
        remedy = "send a JSON object, with content-type: application/json"
        return FieldProblem(field="body", value=_shown(error["input"]), problem="is not a JSON object", remedy=remedy)
    message = str(error["msg"]).removeprefix("Input ")
    remedy = "see /docs for what the field takes"
    if message.startswith("should be "):
        remedy, message = f"give {message.removeprefix('should be ')}", "is not acceptable"
    return FieldProblem(field=field, value=_shown(error.get("input")), problem=message, remedy=remedy)


def _shown(value: object) -> object:
    """A value as it can stand in JSON, at a readable length."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else "an integer beyond 2^53"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _shortened(value if isinstance(value, str) else repr(value), _MOST_VALUE_CHARACTERS)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
