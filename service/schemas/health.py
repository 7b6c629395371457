"""How a server is, as REST tells."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The server answers and reaches its database."""

    service: str
    version: str
    database: str | None = Field(
        None, description="Which database is served: the same for all servers and commands that have it, of no meaning."
    )


class Readiness(BaseModel):
    """The server can do its work."""

    status: str
    revision: str = Field(description="Of the database's tables. A newer one than this release's own serves as well.")
