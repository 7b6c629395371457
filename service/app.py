"""The API and its pages as one FastAPI app. Imports neither torch nor an engine: workers train."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from searcher.boards import Boards
from searcher.final_progress import FinalProgress
from service import outages, problems
from service.access.guard import Guard
from service.access.headers import SecurityHeaders
from service.access.holders import Holders
from service.body_limit import MOST_BODY_BYTES, BodyLimit
from service.description import completed
from service.feed import Feed
from service.head import Head
from service.known_fields import refuse_unknown_parameters
from service.lanes import Lanes
from service.metrics import Metrics
from service.observation import Observation
from service.routes import (
    api_page,
    charts,
    estimates,
    evaluations,
    events,
    health,
    leaderboard,
    measurements,
    metrics,
    networks,
    pages,
    plotly,
    searches,
    sign_in,
    tasks,
    workers,
)
from service.routes.pages import errors, rendering

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from searcher.database import Database
    from service.settings import Settings


def create_app(settings: Settings, database: Database, *, on_loopback: bool = True) -> FastAPI:
    """The app on a database whose tables are this release's.

    ``on_loopback`` says that only this host reaches it; then a key is needed only by what comes from elsewhere.
    """
    app = _App(
        title="quantrank",
        version=version("quantrank"),
        summary="Which architecture, within my parameter budget, still works after 2-bit quantization?",
        responses=problems.PROBLEM_RESPONSES,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever host the request names
    )
    lanes = Lanes(one_writer=database.embedded)
    app.state.settings, app.state.database, app.state.lanes = settings, database, lanes
    app.state.feed = Feed(database, lanes)
    app.state.identity = None  # `serve` knows it, whose database is there
    app.state.boards = Boards()
    app.state.final_progress = FinalProgress()
    app.state.metrics = Metrics(database)
    problems.install(app)
    outages.install(app)
    errors.install(app)
    app.add_middleware(BodyLimit, most_bytes=MOST_BODY_BYTES)
    holders = Holders(database, settings.requests_per_minute, settings.refused_keys_per_minute)
    app.state.holders = holders
    app.add_middleware(Guard, database=database, holders=holders, lanes=lanes, on_loopback=on_loopback)
    for resource in (searches, estimates, events, leaderboard, evaluations, networks, tasks, workers):
        app.include_router(resource.router, dependencies=[Depends(refuse_unknown_parameters)])
    for resource in (health, metrics, pages, charts, measurements, plotly, api_page, sign_in):
        app.include_router(resource.router)
    app.mount("/static/swagger", StaticFiles(directory=api_page.SWAGGER_FOLDER), name="swagger")
    app.mount("/static", rendering.OwnFiles(directory=rendering.FOLDER / "static"), name="static")
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        # Outside of what answers where a route fails.
        return Observation(SecurityHeaders(Head(super().build_middleware_stack())), self.state.metrics)
