"""Whether the server is alive, and whether it can serve."""

import asyncio
from importlib.metadata import version

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from qcore import InvalidInput
from searcher.database import Database
from searcher.schema import has_needed_tables
from service.dependencies import DatabaseOf
from service.lanes import Lane, Lanes
from service.outages import RETRY_AFTER
from service.problems import problem_responses
from service.schemas import Health, Readiness

MOST_WAIT_SECONDS = 2.0
"""How long the database has to say that it is there."""

_RELEASE = version("quantrank")

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_health(request: Request) -> Health:
    """200 while the server answers, whatever its database does: one that does not answer this is to be started anew."""
    return Health(service="quantrank", version=_RELEASE, database=request.app.state.identity)


@router.get("/readyz", responses=problem_responses(503))
async def get_readiness(request: Request, database: DatabaseOf) -> Readiness:
    """200 while the database can be reached and has the tables that this release needs, 503 otherwise."""
    lanes: Lanes = request.app.state.lanes
    try:
        async with asyncio.timeout(MOST_WAIT_SECONDS):
            return await lanes.run(Lane.HEALTH, _readiness, database)
    except TimeoutError:
        told = f"The database has not answered within {MOST_WAIT_SECONDS:.0f} seconds; see that it runs"
        raise HTTPException(503, told, RETRY_AFTER) from None


def _readiness(database: Database) -> Readiness:
    try:
        ready, revision, needed = has_needed_tables(database)
    except InvalidInput as error:
        raise HTTPException(503, f"The database {error.problem}; {error.remedy}", RETRY_AFTER) from None
    if not ready:
        told = f"The database has tables of revision {revision or 'none'}, this release needs {needed}"
        raise HTTPException(503, f"{told}; run `quantrank db upgrade`", RETRY_AFTER)
    return Readiness(status="ready", revision=str(revision))
