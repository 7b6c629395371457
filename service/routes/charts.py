"""Data of the search page's charts, as its scripts fetch them."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from qcore import stored_task
from searcher.curves import learning_curves
from searcher.leaderboard import leaderboard_of_search, search_leaderboard
from searcher.progress import candidates_of
from searcher.situation import search_recipe
from service.dependencies import SearchId, existing_search, reads
from service.schemas import LeaderboardView
from service.schemas.charts import Curve, SearchCharts, SearchCurves

MOST_BEST_CURVES, MOST_RUNNING_CURVES = 6, 6

router = APIRouter(include_in_schema=False)


@router.get("/ui/searches/{search_id}/charts")
@reads()
def get_charts(session: Session, search_id: SearchId) -> SearchCharts:
    search = existing_search(session, search_id)
    task, recipe = stored_task(search.task, search.task_version), search_recipe(search)
    leaderboard = LeaderboardView.of(task, recipe, search.bit_widths, leaderboard_of_search(session, search))
    return SearchCharts.of(search, leaderboard)


@router.get("/ui/searches/{search_id}/curves")
@reads()
def get_curves(session: Session, search_id: SearchId) -> SearchCurves:
    """Of the best by rank, one seed each, and of evaluations that run, by the full recipe."""
    search = existing_search(session, search_id)
    running = [
        each.evaluation
        for _, proposed in candidates_of(session, search)
        for each in proposed
        if each.status == "running" and each.rung is None
    ][:MOST_RUNNING_CURVES]
    best = [entry.evaluations[0] for entry in search_leaderboard(session, search)[:MOST_BEST_CURVES]]
    shown = list(dict.fromkeys([*best, *running]))
    return SearchCurves(
        ranking=search.bit_widths[0],
        boundary=search_recipe(search).float_part.epochs,
        curves=[Curve.of(each) for each in learning_curves(session, search, shown)],
    )
