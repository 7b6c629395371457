"""Errors as people see them: whoever asks for a page is told a problem on a page."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from qcore import InvalidInput
from service.outages import KINDS as OUTAGES
from service.routes.pages.rendering import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI, Request, Response


_KEPT = ("Retry-After", "Allow")
"""Headers of a problem that its page has too."""


def install(app: FastAPI) -> None:
    """Has the app's problem documents shown as pages to those who asked for one."""
    for kind in (InvalidInput, RequestValidationError, HTTPException, Exception, *OUTAGES):
        app.add_exception_handler(kind, _as_page(app.exception_handlers[kind]))


def wants_page(request: Request) -> bool:
    """Whether a browser asks, for its user to look at; scripts and programs take anything."""
    return "text/html" in request.headers.get("accept", "")


def _as_page(handler: Callable[[Request, Exception], Any]) -> Callable[[Request, Exception], Any]:
    async def shown(request: Request, error: Exception) -> Response:
        answer: Response = await handler(request, error)
        if not wants_page(request) or not answer.body:
            return answer
        problem = json.loads(bytes(answer.body))
        page = error_page(request, answer.status_code, problem["title"], problem["detail"])
        page.headers.update({name: answer.headers[name] for name in _KEPT if name in answer.headers})
        return page

    return shown


_IN_PAGES = (
    (r"GET /searches lists", "the list of searches shows"),
    (r"GET /searches/\{?\w+\}?/candidates lists a search's", "the page of a search leads to its own"),
    (r"GET /leaderboard lists", "the leaderboard shows"),
    (r"GET /tasks lists", "the form for a new search shows"),
    (r"GET /evaluations/(\d+) shows", r"the page of evaluation \1 shows"),
    (r"POST /searches/\d+/cancel first", "cancel it on its page first"),
    (r"\b(?:GET|POST|PUT|PATCH|DELETE) (/\S+)", r"the address \1"),
)


def for_people(detail: str) -> str:
    """What a problem says of requests, in terms of pages.

    >>> for_people("search 99 does not exist; GET /searches lists those that do")
    'search 99 does not exist; the list of searches shows those that do'
    """
    for request, page in _IN_PAGES:
        detail = re.sub(request, page, detail)
    return detail


def error_page(request: Request, status: int, title: str, detail: str) -> Response:
    """A page that says what is wrong and where to go from there."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        title = "This address cannot be used as it is"
    return render(request, "error.html", status=status, code=status, title=title, detail=for_people(detail))
