"""``quantrank workers``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from service.output import print_json, print_table
from service.servers import embedded_server, running_server
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

_NONE = "–"


def run(arguments: Namespace) -> int:
    """Prints the workers that run, those that are gone, and what data they lack."""
    settings = load_settings()
    with ExitStack() as stack:
        client = running_server(arguments.url, settings)
        if client is None:  # workers of a pool need no server on this host
            client = stack.enter_context(embedded_server(settings, workers=0)).client
        found = [each.model_dump(mode="json") for each in client.workers()]
    if arguments.json:
        print_json(found)
        return 0
    if not found:
        print("No worker runs.")
        return 0
    columns = ["host", "process", "device", "memory GB", "cores", "threads", "release", "status", "evaluation"]
    print_table("Workers", columns, [_row(each) for each in found])
    told = {(each["host"], missing["problem"]) for each in found for missing in each["missing"]}
    for each in found:
        if each["unfit_reason"] is not None:
            print(f"{each['host']}, process {each['pid']}, is unfit: {each['unfit_reason']}")
    for host, problem in sorted(told):
        print(f"{host} trains nothing of a task: {problem}")
    return 0


def _row(worker: dict[str, Any]) -> list[str]:
    memory, evaluation = worker["memory_bytes"], worker["evaluation"]
    return [
        worker["host"],
        str(worker["pid"]),
        worker["device"],
        _NONE if memory is None else f"{memory / 1e9:.1f}",
        str(worker["cores"]),
        str(worker["threads"]),
        worker["versions"]["quantrank"],
        worker["status"],
        _NONE if evaluation is None else f"{evaluation['id']}: {evaluation['architecture']} on {evaluation['task']}",
    ]
