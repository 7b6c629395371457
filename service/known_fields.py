"""What a route knows: its parameters and the fields of its body. Others are refused, with what they resemble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Request  # noqa: TC002  read when the app is made
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from qcore import InvalidInput
from qcore.wording import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_NAME_CHARACTERS = 100


def known_fields(request: Request, location: Sequence[str | int]) -> tuple[str, ...]:
    """The fields that the route of a request knows beside one: of its body, at that depth, or of its address."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return ()
    return _parameters(route) if location[0] != "body" else _of_body(route, location[1:-1])


async def refuse_unknown_parameters(request: Request) -> None:
    """A dependency of routes: what is asked for by a name that they do not know would be left out without a word.

    Raises:
        InvalidInput: naming the first such parameter.
    """
    known = known_fields(request, ("query",)) if request.query_params else ()
    for name, value in request.query_params.items():
        if name not in known:
            remedy = did_you_mean(name, known) or "leave it out"
            raise InvalidInput(name[:_MOST_NAME_CHARACTERS], value, "is not a known parameter", remedy)


def _parameters(route: APIRoute) -> tuple[str, ...]:
    return tuple(each.alias for each in get_flat_params(route.dependant) if isinstance(each.field_info, Query))


def _of_body(route: APIRoute, path: Sequence[str | int]) -> tuple[str, ...]:
    found: Any = None if route.body_field is None else route.body_field.field_info.annotation
    for part in path:
        fields = getattr(found, "model_fields", {})
        found = fields[part].annotation if part in fields else None
    return tuple(getattr(found, "model_fields", ()))
