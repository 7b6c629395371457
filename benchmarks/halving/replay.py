"""Searches replayed on the recorded table: what successive halving, TPE, GP and random search find for what they cost.

    python -m benchmarks.halving.replay [--replays 200] [--rungs 0.15] [--promoted-share 0.1] [--max-seeds 1] [--top 1]

A replay draws one recorded seed for every evaluation, also for a repeated one, and the order in which two workers'
evaluations end. It runs the planning and the samplers that searches run. Cost is optimizer steps times MACs, float and
W2A2, over that of training every candidate once in full. Regret is how far the chosen candidate's test accuracy, a mean
over all recorded seeds, lies below the best one's, in percentage points.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from qcore import Architecture
from searcher.planning import Outcome, Situation, Strategy, mean_accuracy
from searcher.samplers import load_sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = Path(__file__).parent / "table.json"
WORKERS = 2
MARGIN = 0.5
RUNGS, PROMOTED_SHARE = (0.15,), 0.1
"""Of successive halving, where nothing else is asked for."""


@dataclass(frozen=True)
class Table:
    """Recorded evaluations by architecture, fraction of the recipe, and seed."""

    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path = TABLE) -> Table:
        return cls(json.loads(path.read_text()))

    @cached_property
    def rows(self) -> dict[tuple[str, float], list[dict[str, Any]]]:
        found: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for row in self.values["rows"]:
            found.setdefault((row["architecture"], row["fraction"]), []).append(row)
        return found

    @cached_property
    def candidates(self) -> tuple[Architecture, ...]:
        return tuple(Architecture.parse(name) for name in self.values["macs"])

    def cost(self, name: str, fraction: float) -> float:
        """Of one evaluation, over that of all candidates in full."""
        everything = sum(self._work(each, 1.0) for each in self.values["macs"])
        return self._work(name, fraction) / everything

    def _work(self, name: str, fraction: float) -> int:
        return int(self.values["macs"][name] * self.rows[name, fraction][0]["steps"])

    def mean(self, name: str, fraction: float = 1.0, bits: str = "W2A2", split: str = "test") -> float:
        return fmean(row[bits][split] or 0.0 for row in self.rows[name, fraction])

    def regret(self, name: str) -> float:
        return max(self.mean(each) for each in self.values["macs"]) - self.mean(name)


@dataclass(frozen=True)
class Replay:
    chosen: str
    cost: float
    evaluations: int
    choices: tuple[tuple[float, str], ...] = ()
    """What had been spent when an evaluation in full ended, and what would then have been chosen."""


def replayed(
    table: Table, strategy: Strategy, fractions: tuple[float, ...], sampler: str, most_cost: float | None, seed: int
) -> Replay:
    """One search: rungs of these fractions and the full recipe, until its strategy ends or its money is spent."""
    drawn, choose = random.Random(seed), load_sampler(sampler)
    steps = (*fractions, 1.0)
    strategy = replace(strategy, rungs=len(fractions), seeds=(seed,))
    outcomes: list[Outcome] = []
    choices: list[tuple[float, str]] = []
    cost, spent_all = 0.0, False
    while True:
        situation = Situation(strategy, table.candidates, tuple(outcomes))
        busy = [index for index, outcome in enumerate(outcomes) if outcome.open]
        wish = None if spent_all or len(busy) == WORKERS else situation.next_wish(choose)
        if wish is not None:
            price = table.cost(wish.architecture.name, steps[wish.rung])
            if most_cost is not None and cost + price > most_cost:
                spent_all = True
                continue
            cost += price
            outcomes += [Outcome(wish.architecture, wish.rung, each, None, open=True) for each in wish.seeds]
        elif busy:
            index = drawn.choice(busy)
            each = outcomes[index]
            row = drawn.choice(table.rows[each.architecture.name, steps[each.rung]])
            outcomes[index] = replace(each, accuracy=row["W2A2"]["validation"], open=False)
            if each.rung == len(fractions):
                choices.append((cost, _best(outcomes, each.rung)))
        else:
            break
    return Replay(_best(outcomes, len(fractions)), cost, len(outcomes), tuple(choices))


def _best(outcomes: list[Outcome], rung: int) -> str:
    """The candidate with the greatest validation accuracy of those evaluated in full."""
    full: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.rung == rung:
            full.setdefault(outcome.architecture.name, []).append(outcome)
    return max(full, key=lambda name: mean_accuracy(full[name]) or 0.0)


def summary(table: Table, replays: list[Replay]) -> dict[str, float]:
    regrets = [table.regret(each.chosen) for each in replays]
    return {
        "cost": fmean(each.cost for each in replays),
        "most_cost": max(each.cost for each in replays),
        "within_margin_percent": 100 * fmean(regret <= MARGIN for regret in regrets),
        "mean_regret": fmean(regrets),
        "median_regret": median(regrets),
    }


def compared(
    table: Table, strategy: Strategy, fractions: tuple[float, ...], count: int, samplers: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Successive halving, and each sampler in full for as much, replay by replay."""
    halving = [replayed(table, strategy, fractions, "random", None, seed) for seed in range(count)]
    found = {"successive halving": summary(table, halving)}
    for sampler in samplers:
        alone = [replayed(table, Strategy(), (), sampler, each.cost, seed) for seed, each in enumerate(halving)]
        found[sampler] = summary(table, alone)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--rungs", default=",".join(map(str, RUNGS)))
    parser.add_argument("--promoted-share", type=float, default=PROMOTED_SHARE)
    parser.add_argument("--max-seeds", type=int, default=1)
    parser.add_argument("--top", type=int, default=1)
    parser.add_argument("--indifference-margin", type=float, default=0.5)
    parser.add_argument("--samplers", default="tpe,gp,random", help="what halving is compared with; may be empty")
    arguments = parser.parse_args()
    samplers = [each for each in arguments.samplers.split(",") if each]
    strategy = Strategy(
        promoted_share=arguments.promoted_share,
        max_seeds=arguments.max_seeds,
        top=arguments.top,
        indifference_margin=arguments.indifference_margin,
    )
    fractions = tuple(float(each) for each in arguments.rungs.split(","))
    found = compared(Table.read(), strategy, fractions, arguments.replays, samplers)
    print("| | cost | largest | within 0.5 points | mean regret |\n| --- | ---: | ---: | ---: | ---: |")
    for name, each in found.items():
        print(
            f"| {name} | {each['cost']:.2f} | {each['most_cost']:.2f} | "
            f"{each['within_margin_percent']:.0f} % | {each['mean_regret']:.2f} |"
        )


if __name__ == "__main__":
    main()
