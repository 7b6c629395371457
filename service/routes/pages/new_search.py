"""The form of a new search. Its script asks ``POST /search/estimate`` what would be trained before it posts."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from qcore import DataMissing, Task, get_task, list_tasks
from qcore.families import FAMILIES
from searcher.named import DEFAULT_BIT_WIDTHS
from service.access.roles import Role
from service.dependencies import CallerOf, SettingsOf
from service.lanes import Lane, in_lane
from service.routes.pages.rendering import render
from service.settings import Settings

_FIRST_TASK = "digits"

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/ui/searches/new")
@in_lane(Lane.READS)
def new_search_page(
    request: Request,
    settings: SettingsOf,
    caller: CallerOf,
    task: Annotated[str, Query(max_length=64)] = _FIRST_TASK,
) -> Response:
    """The form for a task, whose block kinds and recipes it offers; the other fields are filled from the address."""
    chosen = get_task(task, settings.data_root)
    return render(
        request,
        "new_search.html",
        task=chosen,
        lacking=_lacks(chosen, settings),
        tasks=list_tasks(settings.data_root),
        depths={block: FAMILIES[block].default_depths for block in chosen.blocks},
        bit_widths=DEFAULT_BIT_WIDTHS,
        recipes=[(recipe.name, recipe.name) for recipe in chosen.recipes],
        may_post=caller.role.includes(Role.SUBMIT),
    )


def _lacks(task: Task, settings: Settings) -> str | None:
    """What of a task's data is not on this host, and how to get it."""
    try:
        task.check(settings.data_root)
    except DataMissing as error:
        return str(error)
    return None
