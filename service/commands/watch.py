"""``quantrank watch``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from qcore import InvalidInput
from service.servers import embedded_server, running_server
from service.settings import load_settings
from service.watching import start_own, watch

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Follows a search to its end and prints its leaderboard; without a server, on one of its own, which trains."""
    settings = load_settings()
    with ExitStack() as stack:
        client, own = running_server(arguments.url, settings), None
        if client is None:
            if not settings.has_database:
                problem = f"does not exist: nothing was searched in {settings.home}"
                raise InvalidInput("search", arguments.search, problem, "set QUANTRANK_HOME, or name a server by --url")
            with embedded_server(settings, workers=0) as looking:
                found = looking.client.search(arguments.search)
            own = start_own(stack, settings, on_ray=found.engine == "ray")
            client = own.client
        return watch(client, client.search(arguments.search), own, as_json=arguments.json)
