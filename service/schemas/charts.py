"""What the charts of a search are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from searcher.curves import LearningCurve
    from searcher.tables import CurvePoint, Search
    from service.schemas.leaderboards import EntryView, LeaderboardView


class ChartPoint(BaseModel):
    """One architecture. Accuracies are validation accuracies in percent, means over seeds."""

    architecture: str
    block: str
    evaluation: int
    rank: int
    provisional: bool
    float_accuracy: float | None
    accuracy: float
    low: float | None
    high: float | None
    costs: dict[str, int]
    on_front: dict[str, bool]
    """By cost: whether nothing that costs as much or less is better."""


class SearchCharts(BaseModel):
    """A search's architectures that have an accuracy at the ranking bit widths, best first."""

    ranking: str
    budgets: dict[str, int]
    """By cost, those that the search has."""
    points: list[ChartPoint]

    @classmethod
    def of(cls, search: Search, leaderboard: LeaderboardView) -> SearchCharts:
        ranking = leaderboard.bit_widths[0]
        ranked = [entry for entry in leaderboard.entries if not entry.diverged]
        costs = [_costs(entry, ranking) for entry in ranked]
        accuracies = [entry.accuracy[ranking].validation or 0.0 for entry in ranked]
        fronts = {cost: _front([each[cost] for each in costs], accuracies) for cost in (costs[0] if costs else ())}
        budgets = {
            "parameters": search.parameter_budget,
            "model_bytes": search.model_bytes_budget,
            "bit_operations": search.bit_operations_budget,
        }
        return cls(
            ranking=ranking,
            budgets={cost: budget for cost, budget in budgets.items() if budget is not None},
            points=[
                ChartPoint(
                    architecture=entry.architecture,
                    block=entry.block,
                    evaluation=entry.evaluations[0],
                    rank=entry.rank,
                    provisional=entry.provisional is not None,
                    float_accuracy=entry.accuracy["float"].validation,
                    accuracy=accuracies[index],
                    low=None if entry.interval is None else entry.interval.low,
                    high=None if entry.interval is None else entry.interval.high,
                    costs=costs[index],
                    on_front={cost: front[index] for cost, front in fronts.items()},
                )
                for index, entry in enumerate(ranked)
            ],
        )


class Curve(BaseModel):
    """Validation accuracy by epoch, of a float stage and of the retraining that ranks."""

    architecture: str
    evaluation: int
    seed: int
    status: str
    float_epochs: list[int]
    float_accuracy: list[float | None]
    epochs: list[int]
    accuracy: list[float | None]

    @classmethod
    def of(cls, curve: LearningCurve) -> Curve:
        float_epochs, float_accuracy = _points(curve.of_float)
        epochs, accuracy = _points(curve.retraining)
        return cls(
            architecture=curve.architecture,
            evaluation=curve.evaluation,
            seed=curve.seed,
            status=curve.status,
            float_epochs=float_epochs,
            float_accuracy=float_accuracy,
            epochs=epochs,
            accuracy=accuracy,
        )


class SearchCurves(BaseModel):
    """Learning curves of a search's best networks and of those that are being trained."""

    ranking: str
    boundary: int
    """Epochs of the float stage, after which retraining begins."""
    curves: list[Curve]


def _points(curve: Sequence[CurvePoint]) -> tuple[list[int], list[float | None]]:
    """Epochs, and the accuracy after each."""
    return [point.epoch for point in curve], [point.validation_accuracy for point in curve]


def _costs(entry: EntryView, ranking: str) -> dict[str, int]:
    return {
        "parameters": entry.parameters,
        "model_bytes": entry.model_bytes[ranking],
        "bit_operations": entry.bit_operations[ranking],
        "macs": entry.macs,
    }


def _front(costs: Sequence[int], accuracies: Sequence[float]) -> list[bool]:
    """Which of them are on the Pareto front: cheaper than everything that is better, and better than all as cheap.

    >>> _front([10, 20, 20, 30], [90.0, 92.0, 91.0, 92.0])
    [True, True, False, False]
    """
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -accuracies[index]))
    found, best = [False] * len(costs), float("-inf")
    for index in order:
        if accuracies[index] > best:
            found[index], best = True, accuracies[index]
    return found
