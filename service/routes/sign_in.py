"""Signing in to the pages with an API key, and out."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from searcher.database import Database
from searcher.sign_ins import add_sign_in, end_sign_in
from service.access.addresses import is_of_this_site
from service.access.cookies import SIGN_IN_SECONDS, digest_in_cookie, remove_cookies, set_cookie
from service.access.refusal import Refusal
from service.access.return_paths import SIGN_IN_PATH, SIGN_OUT_PATH, checked_return_path
from service.access.secrets import digest_of, new_token
from service.dependencies import DatabaseOf, HoldersOf
from service.lanes import Lane, TurnsOf, in_lane
from service.problems import Forbidden
from service.routes.pages.rendering import render

_MOST_FORM_BYTES = 8192

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get(SIGN_IN_PATH)
@in_lane(Lane.READS)
def get_sign_in(request: Request, next: Annotated[str, Query()] = "/") -> Response:  # noqa: A002  the address says it
    """The form."""
    return _form(request, checked_return_path(next))


async def _posted(request: Request) -> dict[str, str]:
    """The form's fields."""
    if not is_of_this_site(request.headers):
        raise Forbidden("Another page than this server's asked for this; sign in at /sign-in")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MOST_FORM_BYTES:
            return {}
    try:
        fields = parse_qs(content.decode("ascii"), max_num_fields=10)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


@router.post(SIGN_IN_PATH)
async def post_sign_in(
    request: Request,
    posted: Annotated[dict[str, str], Depends(_posted)],
    database: DatabaseOf,
    holders: HoldersOf,
    turns: TurnsOf,
) -> Response:
    """Lets a browser in, under a new token, whatever it had before."""
    path = checked_return_path(posted.get("next", "/"))
    try:
        address = request.client.host if request.client else ""
        caller = await turns.take(Lane.ACCESS, holders.holder, posted.get("key", "").strip(), address)
        holders.count_request(caller)
    except Refusal as refusal:
        return _form(request, path, refusal)
    assert caller.key_id is not None
    token = new_token()
    await turns.take(Lane.WRITES, _sign_in, database, caller.key_id, token, digest_in_cookie(request))
    response = RedirectResponse(path, status_code=303)
    set_cookie(request, response, token)
    return response


def _sign_in(database: Database, key_id: int, token: str, former: str | None) -> None:
    with database.write() as session:
        if former is not None:
            end_sign_in(session, former)
        add_sign_in(session, key_id, digest_of(token), SIGN_IN_SECONDS)


@router.post(SIGN_OUT_PATH)
@in_lane(Lane.WRITES)
def post_sign_out(request: Request, database: DatabaseOf) -> Response:
    """Ends the browser's sign-in, for whoever may have copied its cookie too."""
    digest = digest_in_cookie(request)
    if digest is not None:
        with database.write() as session:
            end_sign_in(session, digest)
    response = RedirectResponse(SIGN_IN_PATH, status_code=303)
    remove_cookies(response)
    return response


def _form(request: Request, path: str, refusal: Refusal | None = None) -> Response:
    if refusal is None:
        return render(request, "sign_in.html", next=path, problem=None)
    response = render(
        request, "sign_in.html", status=refusal.problem.status, next=path, problem=f"{refusal.problem.title}."
    )
    response.headers.update(refusal.headers or {})
    return response
