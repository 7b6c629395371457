"""A typed client of the REST API, which the command line uses too.

from service.client import Client
with Client("http://127.0.0.1:8000") as client:
    search = client.post_search({"task": "digits", "parameter_budget": 20_000})
    for event in client.events(search.id):
        print(event.kind, event.data)
    print(client.search_leaderboard(search.id).entries[0].architecture)
"""

from service.client.client import Client
from service.client.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    Refused,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from service.client.events import SearchEvent

__all__ = [
    "Client",
    "Conflict",
    "Forbidden",
    "InvalidRequest",
    "NotFound",
    "Refused",
    "SearchEvent",
    "ServerError",
    "TooManyRequests",
    "Unauthorized",
    "Unreachable",
]
