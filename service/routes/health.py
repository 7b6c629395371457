"""Whether the server is alive, and whether it can serve."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException

from qcore import InvalidInput
from searcher.database import Database
from searcher.schema import has_needed_tables
from searcher.searches import list_searches
from service.dependencies import Reading, get_database
from service.problems import problem_responses
from service.schemas import Health, Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz")
def get_health(session: Reading) -> Health:
    """200 once the server answers and its database does."""
    list_searches(session, limit=1)
    return Health(service="quantrank", version=version("quantrank"))


@router.get("/readyz", responses=problem_responses(503))
def get_readiness(database: Annotated[Database, Depends(get_database)]) -> Readiness:
    """200 while the database can be reached and has the tables that this release needs, 503 otherwise."""
    try:
        ready, revision, needed = has_needed_tables(database)
    except InvalidInput as error:
        raise HTTPException(503, f"The database {error.problem}; {error.remedy}") from None
    if not ready:
        told = f"The database has tables of revision {revision or 'none'}, this release needs {needed}"
        raise HTTPException(503, f"{told}; run `quantrank db upgrade`")
    return Readiness(status="ready", revision=str(revision))
