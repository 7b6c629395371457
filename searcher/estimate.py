"""What a search would cost, before it is posted: which stages it would train, and how long that takes.

Training seconds are taken to grow with MACs x epochs x examples. How many they are for one MAC is measured, on the
task's own newest results; where there are none, both that and what layers take in every step are assumed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from sqlalchemy import select

from qcore import Architecture, Recipe
from qcore import Stage as StagePlan
from qcore.bit_widths import FLOAT
from qcore.cost import macs_of
from qcore.stages import NUMERICS_VERSION
from searcher.planning import promoted
from searcher.proposals import ended_keys, stages_at_rung
from searcher.tables import Evaluation, Stage
from searcher.workers import count_live

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from qcore import Task
    from searcher.plan import SearchPlan


@dataclass(frozen=True)
class Default:
    """What is assumed of a kind of device where nothing was measured."""

    seconds_per_mac: float
    """Of training, for every example and epoch."""
    seconds_per_layer: float
    """For every weight layer on the main path, in every optimizer step: what small networks spend most of."""


DEFAULT_ON_CPU = Default(1.2e-10, 9e-4)
"""Of one core: fitted to the full recipes of ``benchmarks/halving/table.json``, which it meets within a factor of 1.7
in the mean."""
DEFAULT_ON_GPU = Default(1e-12, 1e-4)
"""Assumed, not measured."""

_MEASURED_EVALUATIONS = 100
"""So many of the task's newest are looked at, with all their stages."""


@dataclass(frozen=True)
class CandidateEstimate:
    """What is to be trained of one candidate if it reaches the full recipe."""

    architecture: Architecture
    macs: int
    stages_stored: int
    """Stages that are there already, of all seeds at the full recipe."""
    hours: float
    """Of the others, on one worker."""


@dataclass(frozen=True)
class Estimate:
    """What a search would train and how long that takes. Further seeds of finalists (``max_seeds``) are left out."""

    candidates: tuple[CandidateEstimate, ...]
    evaluations: int
    """To be trained: candidates x rungs x seeds, less those that are there, within ``max_evaluations``."""
    training_hours: float
    """Of all of them, one after another."""
    hours: float
    """Until the search ends, with so many workers that do nothing else."""
    workers: int
    workers_live: int
    """Those that run now."""
    measured_stages: int
    """Results of the task that the hours rest on; 0 where they rest on ``seconds_per_mac`` alone."""
    seconds_per_mac: float | None
    """Of training, for every example and epoch, as measured."""
    default: Default
    """What is assumed in its place."""
    ended_by_time_limit: bool
    """Whether the time limit ends the search before everything is trained."""


class _Rates:
    """Seconds of training for one MAC of one example in one epoch, by block kind, float and quantized apart."""

    def __init__(self, session: Session, task: Task, device: str) -> None:
        work: dict[tuple[str, bool], list[tuple[float, float]]] = defaultdict(list)
        for stage, name, block in _newest_results(session, task, device):
            is_float = stage.bit_widths == str(FLOAT)
            examples = _examples(Recipe.stored(stage.recipe), task, is_float=is_float)
            if examples and stage.train_seconds:
                amount = macs_of(Architecture.parse(name), task) * examples
                work[block, is_float].append((stage.train_seconds, amount))
        everything = [each for found in work.values() for each in found]
        self.measured_stages = len(everything)
        self.default = DEFAULT_ON_GPU if device.startswith("cuda") else DEFAULT_ON_CPU
        self.overall = _ratio(everything) if everything else None
        self._by_kind = {kind: _ratio(found) for kind, found in work.items()}

    def seconds(self, stage: StagePlan, count: int) -> float:
        """Of training a stage of so many MACs."""
        is_float = stage.bit_widths.is_float
        examples = _examples(stage.recipe, stage.task, is_float=is_float)
        rate = self._by_kind.get((stage.architecture.block, is_float), self.overall)
        if rate is not None:
            return rate * count * examples
        steps = examples / stage.recipe.float_part.batch_size
        in_layers = self.default.seconds_per_layer * stage.architecture.depth * steps
        return self.default.seconds_per_mac * count * examples + in_layers


def estimate(session: Session, plan: SearchPlan, device: str = "cpu", workers: int | None = None) -> Estimate:
    """Estimates a search that was planned; stores nothing. With the workers that run, if it is not told how many.

    Args:
        device: what workers train on; results of the other kind of device are not looked at.
    """
    rates = _Rates(session, plan.task, device)
    live, _ = count_live(session)
    costs = {each: macs_of(each, plan.task) for each in plan.candidates}
    recipes = (*plan.rungs, plan.recipe)
    # By rung, candidate and seed: the stages it would train, by key.
    wanted = [
        [
            [
                {stage.key: stage for stage in stages_at_rung(plan.task, each, recipes, rung, seed, plan.bit_widths)}
                for seed in seeds
            ]
            for each in plan.candidates
        ]
        for rung, seeds in enumerate([plan.seeds[:1]] * len(plan.rungs) + [plan.seeds])
    ]
    stored = ended_keys(session, {key for rung in wanted for seeds in rung for stages in seeds for key in stages})
    hours = [
        [
            [
                sum(rates.seconds(each, costs[each.architecture]) for key, each in stages.items() if key not in stored)
                / 3600
                for stages in seeds
            ]
            for seeds in rung
        ]
        for rung in wanted
    ]
    expected = _expected(hours, plan.promoted_share, plan.max_evaluations)
    count = workers or max(1, live)
    total = sum(number * mean for number, mean in expected)
    longest = max((hour for rung in hours for seeds in rung for hour in seeds), default=0.0)
    until_end = max(total / count, longest) if total else 0.0
    limit = math.inf if plan.time_limit_s is None else plan.time_limit_s / 3600
    return Estimate(
        candidates=tuple(
            CandidateEstimate(
                architecture=each,
                macs=costs[each],
                stages_stored=sum(key in stored for stages in wanted[-1][index] for key in stages),
                hours=sum(hours[-1][index]),
            )
            for index, each in enumerate(plan.candidates)
        ),
        evaluations=sum(number for number, _ in expected),
        training_hours=total,
        hours=min(until_end, limit),
        workers=count,
        workers_live=live,
        measured_stages=rates.measured_stages,
        seconds_per_mac=rates.overall,
        default=rates.default,
        ended_by_time_limit=limit < until_end,
    )


def _expected(hours: list[list[list[float]]], promoted_share: float, most: int | None) -> list[tuple[int, float]]:
    """By rung, the full recipe last: how many evaluations are to be trained, and the hours of one in the mean.

    Nobody knows before which candidates are promoted: each is taken to cost what candidates cost in the mean, and to be
    stored already as often.
    """
    found, population = [], len(hours[0])
    for rung in hours:
        every = [hour for seeds in rung for hour in seeds]
        to_train = [hour for hour in every if hour > 0]
        number = round(len(to_train) / len(rung) * population)
        found.append((number, fmean(to_train) if to_train else 0.0))
        population = promoted(promoted_share, population)
    if most is None:
        return found
    left, limited = most, []
    for number, mean in reversed(found):  # what a promotion needs is kept back when candidates enter
        limited.append((min(number, left), mean))
        left -= min(number, left)
    return limited[::-1]


def _newest_results(session: Session, task: Task, device: str) -> list[tuple[Stage, str, str]]:
    """Stages that were trained on the same kind of device, with their evaluations' architectures and block kinds."""
    newest = (
        select(Evaluation.id)
        .where(
            Evaluation.task == task.name,
            Evaluation.task_version == task.version,
            Evaluation.numerics_version == NUMERICS_VERSION,
            Evaluation.status == "done",
        )
        .order_by(Evaluation.id.desc())
        .limit(_MEASURED_EVALUATIONS)
    )
    query = (
        select(Stage, Evaluation.architecture, Evaluation.block)
        .join(Evaluation, Evaluation.id == Stage.evaluation_id)
        .where(Evaluation.id.in_(newest), Stage.status == "done")
    )
    on_cpu = device == "cpu"
    return [
        (stage, name, block)
        for stage, name, block in session.execute(query)
        if str((stage.provenance or {}).get("device", "cpu")).startswith("cpu") == on_cpu
    ]


def _examples(recipe: Recipe, task: Task, *, is_float: bool) -> float:
    """How many examples a stage trains on, over all its epochs."""
    part = recipe.float_part if is_float else recipe.retraining
    held_out = 0 if task.validation_examples else recipe.float_part.validation_share
    if part.epochs == 0:  # a float network that is taken as it is
        return 0.0
    cyclic = part.epochs - part.schedule.epochs
    return (part.schedule.epochs * part.schedule.epoch_share + cyclic) * task.train_examples * (1 - held_out)


def _ratio(found: list[tuple[float, float]]) -> float:
    return sum(seconds for seconds, _ in found) / sum(amount for _, amount in found)
