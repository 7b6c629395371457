"""Following a search to its end at a terminal, and starting the server that a command needs for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from qcore.devices import usable_cores
from searcher.workers import NO_WORKER
from service.durations import duration
from service.output import print_json, print_leaderboard, progress_bar
from service.servers import embedded_server, ray_driver

if TYPE_CHECKING:
    from contextlib import ExitStack

    from rich.progress import Progress

    from service.client import Client
    from service.schemas import SearchView
    from service.servers import OwnServer
    from service.settings import Settings

_SILENCE_SECONDS = 60.0
"""After which it is said that the server does not answer."""


def start_own(stack: ExitStack, settings: Settings, *, on_ray: bool) -> OwnServer:
    """A server for one search, with a worker on each core or with Ray, until ``stack`` is closed."""
    told = "No server is running here: starting one for this search."
    own = stack.enter_context(embedded_server(settings, 0 if on_ray else usable_cores(), told))
    if on_ray:
        stack.enter_context(ray_driver(settings))
    return own


def watch(client: Client, search: SearchView, own: OwnServer | None, *, as_json: bool) -> int:
    """Shows a search's progress until its end and then its leaderboard; returns the command's exit status.

    It goes on however long the server is away, unless that is the command's ``own``.
    """
    page = f"{client.url}{search.links['page']}"
    print(f"Search {search.id}: {search.progress.candidates} candidates, {page}", file=sys.stderr, flush=True)  # noqa: T201
    again = f"quantrank watch {search.id}" + ("" if own is not None else f" --url {client.url}")
    try:
        with progress_bar() as bar:
            away = _Away(client.url, again, own, bar)
            _show_events(client, search, away, bar, NO_WORKER if own is not None else None)  # its own are being started
            search = client.patiently(lambda: client.search(search.id), away)
            found = client.patiently(lambda: client.search_leaderboard(search.id), away).model_dump(mode="json")
    except KeyboardInterrupt:
        told = f"Search {search.id} is not cancelled: it goes on whenever a server runs. To come back: {again}"
        if own is None:
            told += f". To end it: curl -X POST {client.url}{search.links['cancel']}"
        print(f"\n{told}", file=sys.stderr)  # noqa: T201
        raise
    if as_json:
        print_json({"search": search.model_dump(mode="json"), "leaderboard": found})
    elif search.status == "cancelled":
        print(f"Search {search.id} was cancelled.")  # noqa: T201
    else:
        if search.status == "failed":
            print(f"Search {search.id} failed: {search.problem}")  # noqa: T201
        title = f"Search {search.id}: {search.task}, at most {search.budgets}, recipe {search.recipe.name}"
        print_leaderboard(title, found)
    return 0 if search.status == "finished" and found["entries"] else 1


class _Away:
    """Says, once, that the server has not answered for long, and how to come back; and again when it does."""

    def __init__(self, url: str, again: str, own: OwnServer | None, bar: Progress) -> None:
        self._url, self._again, self._own, self._bar = url, again, own, bar
        self._told = False

    def __call__(self, seconds: float, reason: str) -> None:
        if self._own is not None:
            self._own.check(f"The search goes on with the next server: {self._again}")
        if seconds >= _SILENCE_SECONDS and not self._told:
            self._told = True
            _tell(
                self._bar,
                f"No answer for {duration(seconds)} ({reason}). The search goes on wherever its workers run, and this "
                f"goes on asking; Ctrl-C ends the watching alone. To come back: {self._again}",
            )

    def answered(self) -> None:
        if self._told:
            self._told = False
            _tell(self._bar, f"{self._url} answers again.")


def _show_events(client: Client, search: SearchView, away: _Away, bar: Progress, told: str | None) -> None:
    """Shows events as they come; what the search waits for when it is another than was ``told``."""
    shown = bar.add_task(f"search {search.id}", total=search.progress.epochs_total)
    for _, kind, data in client.events(search.id, while_away=away):
        away.answered()
        if kind == "progress":
            bar.update(
                shown,
                total=data["epochs_total"],
                completed=data["epochs_done"],
                description=f"search {search.id}: {_ended(data['evaluations'])} evaluations ended",
            )
            if data["waits_for"] not in (None, told):
                told = data["waits_for"]
                _tell(bar, f"Waiting: {told}")
        elif kind in ("evaluation_failed", "evaluation_lost"):
            _tell(bar, f"{data['architecture']}: {data.get('error') or kind.replace('_', ' ')}")


def _ended(evaluations: dict[str, Any]) -> int:
    return sum(count for status, count in evaluations.items() if status not in ("queued", "running"))


def _tell(bar: Progress, text: str) -> None:
    bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
