"""``quantrank search``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from qcore.devices import usable_cores
from searcher.budgets import check_budgets
from searcher.request import SearchRequest
from service.durations import duration
from service.output import number, print_json, print_table
from service.servers import embedded_server, running_server
from service.settings import load_settings
from service.watching import start_own, watch

if TYPE_CHECKING:
    from argparse import Namespace

    from service.client import Client
    from service.schemas import EstimateView, SearchView
    from service.settings import Settings


def run(arguments: Namespace) -> int:
    """Posts a search; with ``--watch``, or on a server of its own, follows it and prints the leaderboard.

    With ``--estimate`` it posts nothing and says what the search would cost.
    """
    check_budgets(arguments.parameter_budget, arguments.model_bytes_budget, arguments.bit_operations_budget)
    given = {field: getattr(arguments, field) for field in SearchRequest.model_fields}
    request = {field: value for field, value in given.items() if value is not None}
    settings = load_settings()
    with ExitStack() as stack:
        client = running_server(arguments.url, settings)
        if arguments.estimate:
            _print_estimate(_estimate(stack, client, settings, request), as_json=arguments.json)
            return 0
        own = None
        if client is None:
            own = start_own(stack, settings, on_ray=request.get("engine") == "ray")
            client = own.client
        search = client.post_search(request)
        if not arguments.watch and own is None:
            _print_posted(client, search, as_json=arguments.json)
            return 0
        return watch(client, search, own, as_json=arguments.json)


def _estimate(stack: ExitStack, client: Client | None, settings: Settings, request: dict[str, Any]) -> EstimateView:
    if client is not None:
        return client.estimate(request)
    # Without a server the search would start its own, with so many workers.
    return stack.enter_context(embedded_server(settings, workers=0)).client.estimate(request, workers=usable_cores())


def _print_estimate(found: EstimateView, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    ranking = found.bit_widths[0]
    print_table(
        f"Candidates for {found.task}, recipe {found.recipe.name}",
        [
            "architecture",
            "parameters",
            "MACs",
            f"{ranking} bit operations",
            f"{ranking} bytes",
            "on one worker",
            "stored",
        ],
        [
            [
                each.costs.architecture,
                number(each.costs.parameters),
                number(each.costs.macs),
                number(each.costs.bit_operations[ranking]),
                number(each.costs.model_bytes[ranking]),
                duration(3600 * each.hours),
                number(each.stages_stored),
            ]
            for each in found.listed
        ],
    )
    end = ", where its time limit ends it" if found.ended_by_time_limit else ""
    print(
        f"{number(found.candidates)} candidates, {number(found.evaluations)} evaluations to train: "
        f"about {duration(3600 * found.hours)}{end} ({found.rests_on}). Nothing was posted."
    )


def _print_posted(client: Client, search: SearchView, *, as_json: bool) -> None:
    if as_json:
        print_json(search.model_dump(mode="json"))
        return
    candidates = search.progress.candidates
    print(f"Search {search.id}: {candidates} candidates. Watch it at {client.url}{search.links['page']}")
