"""``quantrank extend``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qcore import InvalidInput
from searcher.request import Limits
from service.output import print_json
from service.servers import running_server
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Gives a search other limits, those that are named."""
    given = {name: getattr(arguments, name) for name in Limits.model_fields}
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits:
        raise InvalidInput("limits", "none", "leave the search as it is", "give e.g. --max-evaluations 20")
    client = running_server(arguments.url, load_settings())
    if client is None:
        print("quantrank: no server is running here; start one with `quantrank serve`", file=sys.stderr)
        return 1
    search = client.extend(arguments.search, limits)
    if arguments.json:
        print_json(search.model_dump(mode="json"))
    else:
        print(f"Search {search.id} is {search.status}. Watch it at {client.url}{search.links['page']}")
    return 0
