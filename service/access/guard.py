"""The guard: every request passes it, and reaches a route only with a caller who may.

On an address of this host alone no key is needed, as long as the request was meant for this host: what a page asks of
another name that suddenly stands for 127.0.0.1 (DNS rebinding), and what a proxy passes on from elsewhere, was not.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from searcher.api_keys import note_use
from service.access.addresses import host_of, is_loopback, is_of_another_site, is_of_this_site, leads_a_browser_here
from service.access.caller import THIS_HOST, Caller
from service.access.cookies import digest_in_cookie
from service.access.refusal import CHALLENGE, KEY_REMEDY, Refusal
from service.access.return_paths import SIGN_IN_PATH, sign_in_path
from service.access.roles import changes_something, needed_role
from service.lanes import Lane, turns_of
from service.outages import KINDS as OUTAGES
from service.outages import answer_to
from service.problems import respond
from service.routes.pages.errors import error_page, wants_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from searcher.database import Database
    from service.access.holders import Holders
    from service.lanes import Lanes

log = logging.getLogger(__name__)

OPEN_PATHS = ("/healthz", "/readyz", SIGN_IN_PATH)
"""What tells nothing but that the server is alive, which who starts and balances servers asks without a key; and the
form to sign in with one."""

_OPEN_FOLDERS = ("/static/",)
_USE_PRECISION_SECONDS = 60.0
_FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Guard:
    """ASGI middleware that tells routes who calls (``request.state.caller``), or answers in their place."""

    def __init__(self, app: ASGIApp, database: Database, holders: Holders, lanes: Lanes, *, on_loopback: bool) -> None:
        self._app, self._database, self._holders, self._lanes = app, database, holders, lanes
        self._on_loopback = on_loopback
        self._noted: dict[int, float] = {}
        """When a key's use was last written down, by this process's clock."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        assert scope["type"] == "http", "there are no other routes"
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(_OPEN_FOLDERS):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            caller = await self._caller_of(request)
        except Refusal as refusal:
            await _answer(request, refusal)(scope, receive, send)
            return
        except OUTAGES as error:
            answer = answer_to(error)
            if answer is None:
                raise
            await answer(scope, receive, send)
            return
        request.state.caller = caller
        await self._app(scope, receive, send)
        if caller.key_id is not None:  # once it is answered: on SQLite this waits for other writers
            await self._note_use(caller.key_id)

    async def _caller_of(self, request: Request) -> Caller:
        needed, changes = needed_role(request.method, request.url.path), changes_something(request.method)
        # Nothing is loaded into another site's page either: it could not read it, but what it costs.
        if is_of_another_site(request.headers) and (changes or not leads_a_browser_here(request.headers)):
            detail = "A page of another site asked for this; use the pages of this server"
            raise Refusal(403, "Asked by another site", detail)
        caller = await self._identified(request)
        self._holders.count_request(caller)
        if caller.signed_in and changes and not is_of_this_site(request.headers):
            detail = "Nothing says that a page of this server asked; send the key itself as `Authorization: Bearer KEY`"
            raise Refusal(403, "Asked by no page of this server", detail)
        if not caller.role.includes(needed):
            raise Refusal(
                403,
                "This key may not do that",
                f"{request.method} needs a key of role {needed}, and {caller.name!r} has role {caller.role}; "
                "use another key",
            )
        return caller

    async def _identified(self, request: Request) -> Caller:
        given = request.headers.get("authorization")
        if given is not None:
            scheme, _, key = given.partition(" ")
            if scheme.lower() != "bearer":
                raise _key_needed(f"The authorization is not of the form `Bearer KEY`; {KEY_REMEDY}")
            address = request.client.host if request.client else ""
            return await turns_of(request).take(Lane.ACCESS, self._holders.holder, key.strip(), address)
        if self._is_of_this_host(request):
            return THIS_HOST
        digest = digest_in_cookie(request)
        if digest is not None:
            signed_in = await turns_of(request).take(Lane.ACCESS, self._holders.signed_in, digest)
            if signed_in is not None:
                return signed_in
        if self._on_loopback:
            detail = (
                "Without a key this server answers what is asked of 127.0.0.1 or localhost, on this host and through "
                f"no proxy; {KEY_REMEDY}"
            )
        else:
            detail = f"This server is reachable from other hosts and answers to keys only; {KEY_REMEDY}"
        raise _key_needed(detail)

    async def _note_use(self, key_id: int) -> None:
        now = time.monotonic()
        if now - self._noted.get(key_id, -_USE_PRECISION_SECONDS) >= _USE_PRECISION_SECONDS:
            self._noted[key_id] = now
            try:
                await self._lanes.run(Lane.WRITES, self._write_use, key_id)
            except SQLAlchemyError as error:
                log.warning("when key %d was used is not written down: %s", key_id, error)

    def _write_use(self, key_id: int) -> None:
        with self._database.write() as session:
            note_use(session, key_id)

    def _is_of_this_host(self, request: Request) -> bool:
        forwarded = any(header in request.headers for header in _FORWARDING_HEADERS)
        return self._on_loopback and not forwarded and is_loopback(host_of(request.headers.get("host", "")))


def _answer(request: Request, refusal: Refusal) -> Response:
    problem = refusal.problem
    # Whoever looks at a browser is led on, or told on a page; scripts and programs are told the problem.
    if request.method != "GET" or "authorization" in request.headers or not wants_page(request):
        return respond(problem, refusal.headers)
    if problem.status == 401:
        return RedirectResponse(sign_in_path(request.url), status_code=303)
    page = error_page(request, problem.status, problem.title, problem.detail)
    page.headers.update(refusal.headers or {})
    return page


def _key_needed(detail: str) -> Refusal:
    return Refusal(401, "A key is needed", detail, CHALLENGE)
