"""``quantrank search``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from qcore.devices import usable_cores
from searcher.budgets import check_budgets
from searcher.request import SearchRequest
from service.client import Client, ServerError
from service.output import number, print_json, print_leaderboard, print_table, progress_bar
from service.servers import embedded_server, ray_driver, running_server
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

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
    try:
        with ExitStack() as stack:
            client = running_server(arguments.url, settings)
            is_own_server = client is None
            if arguments.estimate:
                _print_estimate(_estimate(stack, client, settings, request), as_json=arguments.json)
                return 0
            if client is None:
                print("No server is running here: starting one for this search.", file=sys.stderr)
                on_ray = request.get("engine") == "ray"
                client = stack.enter_context(embedded_server(settings, 0 if on_ray else usable_cores()))
                if on_ray:
                    stack.enter_context(ray_driver(settings))
            search = client.post_search(request)
            if not arguments.watch and not is_own_server:
                _print_posted(client, search, as_json=arguments.json)
                return 0
            try:
                return _watch(client, search, as_json=arguments.json)
            except KeyboardInterrupt:
                told = f"Search {search.id} is not cancelled: it goes on whenever a server runs"
                if not is_own_server:
                    told += f". To end it: curl -X POST {client.url}{search.links['cancel']}"
                print(f"\n{told}", file=sys.stderr)
                raise
    except ServerError as error:
        print(f"quantrank: {error}", file=sys.stderr)
        return 1


def _estimate(stack: ExitStack, client: Client | None, settings: Settings, request: dict[str, Any]) -> EstimateView:
    if client is not None:
        return client.estimate(request)
    # Without a server the search would start its own, with so many workers.
    return stack.enter_context(embedded_server(settings, workers=0)).estimate(request, workers=usable_cores())


def _print_estimate(found: EstimateView, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    ranking = found.bit_widths[0]
    print_table(
        f"Candidates for {found.task}, recipe {found.recipe.name}",
        ["architecture", "parameters", "MACs", f"{ranking} bit operations", f"{ranking} bytes", "hours", "stored"],
        [
            [
                each.costs.architecture,
                number(each.costs.parameters),
                number(each.costs.macs),
                number(each.costs.bit_operations[ranking]),
                number(each.costs.model_bytes[ranking]),
                f"{each.hours:.3g}",
                number(each.stages_stored),
            ]
            for each in found.listed
        ],
    )
    end = ", where its time limit ends it" if found.ended_by_time_limit else ""
    print(
        f"{number(found.candidates)} candidates, {number(found.evaluations)} evaluations to train: "
        f"about {found.hours:.2g} hours{end} ({found.rests_on}). Nothing was posted."
    )


def _print_posted(client: Client, search: SearchView, *, as_json: bool) -> None:
    if as_json:
        print_json(search.model_dump(mode="json"))
        return
    candidates = search.progress.candidates
    print(f"Search {search.id}: {candidates} candidates. Watch it at {client.url}{search.links['page']}")


def _watch(client: Client, search: SearchView, *, as_json: bool) -> int:
    page = f"{client.url}{search.links['page']}"
    print(f"Search {search.id}: {search.progress.candidates} candidates, {page}", file=sys.stderr, flush=True)
    told = None
    with progress_bar() as bar:
        shown = bar.add_task(f"search {search.id}", total=search.progress.epochs_total)
        for _, kind, data in client.events(search.id):
            if kind == "progress":
                open_ones = [data["evaluations"].get(status, 0) for status in ("queued", "running")]
                ended = sum(data["evaluations"].values()) - sum(open_ones)
                bar.update(
                    shown,
                    total=data["epochs_total"],
                    completed=data["epochs_done"],
                    description=f"search {search.id}: {ended} evaluations ended",
                )
                if data["waits_for"] not in (None, told):
                    told = data["waits_for"]
                    bar.console.print(f"Waiting: {told}", markup=False, soft_wrap=True)
            elif kind in ("evaluation_failed", "evaluation_lost"):
                bar.console.print(f"{data['architecture']}: {data.get('error') or kind.replace('_', ' ')}")
    search = client.search(search.id)
    leaderboard = client.search_leaderboard(search.id).model_dump(mode="json")
    if as_json:
        print_json({"search": search.model_dump(mode="json"), "leaderboard": leaderboard})
    elif search.status == "cancelled":
        print(f"Search {search.id} was cancelled.")
    else:
        if search.status == "failed":
            print(f"Search {search.id} failed: {search.problem}")
        title = f"Search {search.id}: {search.task}, at most {search.budgets}, recipe {search.recipe.name}"
        print_leaderboard(title, leaderboard)
    return 0 if search.status == "finished" and leaderboard["entries"] else 1
