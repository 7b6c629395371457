"""What an architecture's seeds gave at the bit widths that rank, in one line: what leaderboards are ordered by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from qcore.bit_widths import FLOAT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Row

    from searcher.costs import Costs

EndedStage: TypeAlias = "Row[*tuple[Any, ...]]"
"""A stage with its evaluation: the columns that leaderboards read."""


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracies over seeds, in percent; None where every run diverged."""

    validation: float | None
    test: float | None


@dataclass(frozen=True)
class Standing:
    """One architecture at the bit widths that rank. Means are over the seeds whose stage at them has ended."""

    architecture: str
    block: str
    depth: int
    width: int
    parameters: int
    macs: int
    bit_operations: int
    """This and bytes at the bit widths that rank."""
    model_bytes: int
    seeds: int
    accuracy: float | None
    """Mean validation accuracy: what ranks. None where a seed diverged."""
    squares: float
    """Sum of the seeds' squared distances from it; 0 where there is none."""
    float_accuracy: float | None
    """Mean validation accuracy of the float networks."""
    drop: float | None
    """Percentage points of test accuracy from float to the bit widths that rank."""
    train_seconds: float
    """Of the float stages and those that rank, summed over seeds."""


def by_seed(stages: Iterable[EndedStage], ranking: str) -> dict[str, list[dict[str, EndedStage]]]:
    """Architectures' stages by bit widths, seed by seed: of the seeds that have one at those that rank.

    The stages come by architecture and seed.
    """
    found = {}
    for architecture, own in groupby(stages, key=attrgetter("architecture")):
        seeds = [{stage.bit_widths: stage for stage in each} for _, each in groupby(own, key=attrgetter("seed"))]
        if ended := [by_bits for by_bits in seeds if ranking in by_bits]:
            found[architecture] = ended
    return found


def standing_of(ended: Sequence[Mapping[str, EndedStage]], ranking: str, costs: Costs) -> Standing:
    """Of one architecture's stages, as ``by_seed`` gives them."""
    stages = [by_bits[ranking] for by_bits in ended]
    of_float, ranked = accuracies(ended, str(FLOAT)), accuracies(ended, ranking)
    first, mean = stages[0], None if _any_diverged(stages) else ranked.validation
    return Standing(
        architecture=first.architecture,
        block=first.block,
        depth=first.depth,
        width=first.width,
        parameters=first.parameters,
        macs=costs.macs,
        bit_operations=costs.bit_operations[ranking],
        model_bytes=costs.model_bytes[ranking],
        seeds=len(stages),
        accuracy=mean,
        squares=0.0 if mean is None else math.fsum((stage.validation_accuracy - mean) ** 2 for stage in stages),
        float_accuracy=of_float.validation,
        drop=None if of_float.test is None or ranked.test is None else of_float.test - ranked.test,
        train_seconds=math.fsum(
            by_bits[bits].train_seconds or 0.0 for by_bits in ended for bits in (str(FLOAT), ranking) if bits in by_bits
        ),
    )


def ranking_accuracy(ended: Sequence[Mapping[str, EndedStage]], ranking: str) -> float | None:
    """The mean validation accuracy at the bit widths that rank, over seeds.

    A seed that diverged is worth less than any accuracy, so that there is none: such an architecture is not reliable.
    """
    has_diverged = _any_diverged([by_bits[ranking] for by_bits in ended])
    return None if has_diverged else accuracies(ended, ranking).validation


def _any_diverged(stages: Iterable[EndedStage]) -> bool:
    return any(stage.status == "diverged" for stage in stages)


def accuracies(ended: Iterable[Mapping[str, EndedStage]], bits: str) -> Accuracy:
    """Means over the seeds that have a stage at those bit widths."""
    found = [by_bits[bits] for by_bits in ended if bits in by_bits]
    return Accuracy(_mean(stage.validation_accuracy for stage in found), _mean(stage.test_accuracy for stage in found))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
