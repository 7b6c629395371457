"""``quantrank leaderboard``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from service.output import print_json, print_leaderboard
from service.servers import embedded_server, running_server
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Prints the leaderboard of a task over all searches of the server."""
    settings = load_settings()
    with ExitStack() as stack:
        client = running_server(arguments.url, settings)
        if client is None:  # results outlive the server that made them
            client = stack.enter_context(embedded_server(settings, workers=0)).client
        found = client.leaderboard(
            arguments.task,
            recipe=arguments.recipe,
            bit_widths=",".join(arguments.bit_widths) if arguments.bit_widths else None,
            search=arguments.search,
            limit=arguments.limit,
            block=arguments.block,
            max_parameters=arguments.max_parameters,
            max_model_bytes=arguments.max_model_bytes,
            max_bit_operations=arguments.max_bit_operations,
            sort=arguments.sort,
        ).model_dump(mode="json")
    if arguments.json:
        print_json(found)
    else:
        print_leaderboard(f"{found['task']}, recipe {found['recipe']['name']}", found)
    return 0
