"""Data of the search page's charts, as its scripts fetch them."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from qcore import stored_task
from searcher.leaderboard import leaderboard_of_search, search_leaderboard
from searcher.progress import candidates_of, progress
from searcher.results import curve_of, stages_of_evaluation
from searcher.situation import search_recipe
from searcher.tables import Evaluation, Search
from service.dependencies import ExistingSearch, Reading
from service.schemas import LeaderboardView, SearchView
from service.schemas.charts import Curve, SearchCharts, SearchCurves, points_of

MOST_BEST_CURVES, MOST_RUNNING_CURVES = 6, 6

router = APIRouter(include_in_schema=False)


@router.get("/ui/searches/{search_id}/charts")
def get_charts(search: ExistingSearch, session: Reading) -> SearchCharts:
    task, recipe = stored_task(search.task, search.task_version), search_recipe(search)
    leaderboard = LeaderboardView.of(task, recipe, search.bit_widths, leaderboard_of_search(session, search))
    return SearchCharts.of(SearchView.of(search, progress(session, search)), leaderboard)


@router.get("/ui/searches/{search_id}/curves")
def get_curves(search: ExistingSearch, session: Reading) -> SearchCurves:
    """Of the best by rank, one seed each, and of evaluations that run, by the full recipe."""
    running = [
        each.evaluation
        for _, proposed in candidates_of(session, search)
        for each in proposed
        if each.status == "running" and each.rung is None
    ][:MOST_RUNNING_CURVES]
    best = [entry.evaluations[0] for entry in search_leaderboard(session, search)[:MOST_BEST_CURVES]]
    found = [session.get_one(Evaluation, number) for number in best]
    found += [evaluation for evaluation in running if evaluation.id not in best]
    return SearchCurves(
        ranking=search.bit_widths[0],
        boundary=search_recipe(search).float_part.epochs,
        curves=[_curve(session, search, evaluation) for evaluation in found],
    )


def _curve(session: Session, search: Search, evaluation: Evaluation) -> Curve:
    float_stage, *others = stages_of_evaluation(session, evaluation.id)
    retraining = next(
        (
            stage
            for stage in others
            if stage.bit_widths == search.bit_widths[0]
            and stage.retraining_recipe_hash == search.retraining_recipe_hash
        ),
        None,
    )
    float_epochs, float_accuracy = points_of(curve_of(session, float_stage.id))
    epochs, accuracy = points_of(() if retraining is None else curve_of(session, retraining.id))
    return Curve(
        architecture=evaluation.architecture,
        evaluation=evaluation.id,
        seed=evaluation.seed,
        status=evaluation.status,
        float_epochs=float_epochs,
        float_accuracy=float_accuracy,
        epochs=epochs,
        accuracy=accuracy,
    )
