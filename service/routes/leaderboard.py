"""The leaderboard of a task over all searches."""

from typing import Annotated

from fastapi import APIRouter, Query

from qcore import InvalidInput, get_task
from searcher.leaderboard import task_leaderboard
from searcher.named import DEFAULT_BIT_WIDTHS, parse_bit_widths, recipe_from_text, resolve_recipe
from service.dependencies import MOST_ID, Reading, SettingsOf
from service.schemas import LeaderboardView

router = APIRouter(tags=["leaderboard"])


@router.get("/leaderboard")
def get_leaderboard(
    session: Reading,
    settings: SettingsOf,
    task: Annotated[str, Query(description="Name of a task, as GET /tasks lists them.", examples=["digits"])],
    recipe: Annotated[
        str | None,
        Query(description="A recipe's name, or overrides as a JSON object; the task's default if not given."),
    ] = None,
    bit_widths: Annotated[str, Query(description="Comma-separated; the first ranks.")] = ",".join(DEFAULT_BIT_WIDTHS),
    max_parameters: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None,
    block: Annotated[str | None, Query(description="One block kind only.")] = None,
) -> LeaderboardView:
    """Every finished evaluation of a task and recipe, from whichever search, ranked by the first bit widths."""
    found = get_task(task, settings.data_root)
    given = None if recipe is None else recipe_from_text(recipe)
    chosen = resolve_recipe(found, given, settings.data_root, settings.device)
    names = bit_widths.split(",")
    if block is not None and block not in found.blocks:
        remedy = f"use one of {', '.join(found.blocks)}"
        raise InvalidInput("block", block, f"does not suit task {found.name}", remedy)
    entries = task_leaderboard(
        session, found, chosen, parse_bit_widths(names), max_parameters=max_parameters, block=block
    )
    return LeaderboardView.of(found, chosen, names, entries)
