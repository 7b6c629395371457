"""How a server is, as REST tells."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The server answers and reaches its database."""

    service: str
    version: str


class Readiness(BaseModel):
    """The server can do its work."""

    status: str
    revision: str = Field(description="Of the database's tables. A newer one than this release's own serves as well.")
