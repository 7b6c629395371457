"""Whether the server is alive."""

from importlib.metadata import version

from fastapi import APIRouter
from pydantic import BaseModel

from searcher.searches import list_searches
from service.dependencies import Reading

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The server answers and reaches its database."""

    service: str
    version: str


@router.get("/healthz")
def get_health(session: Reading) -> Health:
    """200 once the server answers and its database does."""
    list_searches(session, limit=1)
    return Health(service="quantrank", version=version("quantrank"))
