"""What a search should evaluate next: new candidates, promotions from rung to rung, further seeds of finalists.

A rung is the search's recipe cut short. Every candidate enters at the first; the top share of each goes on to the next,
and the last is the full recipe, which alone is ranked (successive halving; Jamieson and Talwalkar 2016, asynchronous
as Li et al. 2020 where time is what ends the search). Pure functions of what is known: workers ask them with what the
tables say, studies with recorded results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from qcore.ranking import undecided
from searcher.samplers import Trial, first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qcore import Architecture
    from searcher.samplers import Choose


@dataclass(frozen=True)
class Strategy:
    """How a search spends its evaluations."""

    seeds: tuple[int, ...] = (0,)
    """Of the full recipe; rungs take the first."""
    rungs: int = 0
    """Before the full recipe."""
    promoted_share: float = 0.25
    """Of a rung, to the next one."""
    promotes_early: bool = False
    """Promote from what has ended so far, rather than wait until it is clear who is among the best."""
    max_seeds: int = 1
    """Up to which finalists are repeated."""
    top: int = 1
    """How many of the best are to be told apart by further seeds."""
    indifference_margin: float = 0.0
    """Difference in percentage points that nobody cares for."""


@dataclass(frozen=True)
class Outcome:
    """An evaluation that was proposed for a search, and what it gave."""

    architecture: Architecture
    rung: int
    """``Strategy.rungs`` is the full recipe."""
    seed: int
    accuracy: float | None
    """Validation accuracy in percent at the ranking bit widths; None while unknown and where it failed or diverged."""
    open: bool
    """Still without it, and waiting or running."""


@dataclass(frozen=True)
class Wish:
    """What to evaluate next: one candidate, at one rung, with these seeds."""

    architecture: Architecture
    rung: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Situation:
    """What a search knows when it asks for the next wish."""

    strategy: Strategy
    candidates: tuple[Architecture, ...]
    """All that are feasible."""
    outcomes: tuple[Outcome, ...]
    """Of everything proposed so far."""
    left: int | None = None
    """How many more evaluations may be trained; None for no limit."""
    cost: Callable[[Architecture], float] | None = None
    """A second objective for the choice among candidates, to be small."""
    examples: int | None = None
    """How many the accuracies are measured on; None where they are no shares of examples."""

    def next_wish(self, choose: Choose = first) -> Wish | None:
        """What to propose now; None if there is nothing, or nothing before some open evaluation has ended.

        ``choose`` says which of the candidates that are still unknown comes next.
        """
        if self.left == 0:
            return None
        if completion := self._completion():
            return completion
        if self.strategy.promotes_early:
            return self._promotion() or self._entry(choose) or self._repetition()
        return self._entry(choose) or self._promotion() or self._repetition()

    def wishes(self, choose: Choose = first) -> Iterator[Wish]:
        """One wish after another, as if each were proposed at once and still open when the next is asked for."""
        situation = self
        while wish := situation.next_wish(choose):
            yield wish
            open_ones = (Outcome(wish.architecture, wish.rung, seed, None, open=True) for seed in wish.seeds)
            left = None if situation.left is None else max(0, situation.left - len(wish.seeds))
            situation = replace(situation, outcomes=(*situation.outcomes, *open_ones), left=left)

    @cached_property
    def _rungs(self) -> list[dict[Architecture, list[Outcome]]]:
        """By rung, the full recipe last, the outcomes of each candidate that came so far."""
        found: list[dict[Architecture, list[Outcome]]] = [{} for _ in range(self.strategy.rungs + 1)]
        for outcome in self.outcomes:
            found[outcome.rung].setdefault(outcome.architecture, []).append(outcome)
        return found

    def _completion(self) -> Wish | None:
        """The seeds that a candidate lacks at a rung it came to: a limit ended the search, and it was extended."""
        for rung in reversed(range(self.strategy.rungs + 1)):
            for architecture, outcomes in self._rungs[rung].items():
                known = {outcome.seed for outcome in outcomes}
                if lacking := tuple(seed for seed in self._seeds_at(rung) if seed not in known):
                    return Wish(architecture, rung, lacking)
        return None

    def _entry(self, choose: Choose) -> Wish | None:
        """A candidate of which nothing is known; none where what is left is needed to promote the best."""
        seen = {outcome.architecture for outcome in self.outcomes}
        remaining = [each for each in self.candidates if each not in seen]
        if not remaining or not self._may_enter():
            return None
        trials = [
            Trial(
                architecture,
                mean_accuracy(outcomes),
                any(outcome.open for outcome in outcomes),
                None if self.cost is None else self.cost(architecture),
            )
            for architecture, outcomes in self._rungs[0].items()
        ]
        architecture = choose(remaining, trials, self.strategy.seeds[0])
        return Wish(architecture, 0, self._seeds_at(0))

    def _promotion(self) -> Wish | None:
        """The best candidate that belongs among the top share of its rung and is not yet at the next; highest rung
        first. Without haste only once no open one can still push it out.
        """
        for rung in reversed(range(self.strategy.rungs)):
            here, above = self._rungs[rung], self._above(rung)
            ended = sorted(
                (each for each, outcomes in here.items() if not any(outcome.open for outcome in outcomes)),
                key=lambda each: (-_sortable(mean_accuracy(here[each])), each.name),
            )
            if self.strategy.promotes_early:
                places = math.floor(self.strategy.promoted_share * len(ended))
            else:
                population = self._populations[rung]
                places = self._promoted(population) - (population - len(ended))
            for architecture in ended[: max(0, places)]:
                if architecture not in above and mean_accuracy(here[architecture]) is not None:
                    return Wish(architecture, rung + 1, self._seeds_at(rung + 1))
        return None

    def _repetition(self) -> Wish | None:
        """A further seed of the finalist with the fewest, while ranks are not told apart; once each has its first ones.

        Others may be under way: waiting for them would leave all but one worker idle.
        """
        strategy, full = self.strategy, self._rungs[-1]
        is_further = {outcome: outcome.seed not in strategy.seeds for outcome in self.outcomes if outcome.open}
        if strategy.max_seeds <= len(strategy.seeds) or not all(is_further.values()):
            return None
        groups = {
            architecture.name: [outcome.accuracy for outcome in outcomes if outcome.accuracy is not None]
            for architecture, outcomes in full.items()
            if all(outcome.open or outcome.accuracy is not None for outcome in outcomes)
        }
        wanting = undecided(groups, strategy.top, strategy.indifference_margin, self.examples)
        by_name = {each.name: each for each in full}
        finalists = [by_name[name] for name in wanting if len(full[by_name[name]]) < strategy.max_seeds]
        if not finalists:
            return None
        architecture = min(finalists, key=lambda each: len(full[each]))
        used = {outcome.seed for outcome in full[architecture]}
        return Wish(architecture, strategy.rungs, (next(seed for seed in self._more_seeds() if seed not in used),))

    def _may_enter(self) -> bool:
        """Whether, with one more candidate entered, the promotions that follow can still be paid for."""
        if self.left is None or not self.strategy.rungs:
            return True
        needed, population = 1, len(self._rungs[0]) + 1
        for rung in range(self.strategy.rungs):
            population = self._promoted(population)
            missing = max(0, population - len(self._rungs[rung + 1]))
            needed += missing * len(self._seeds_at(rung + 1))
        return needed <= self.left

    def _promoted(self, population: int) -> int:
        return promoted(self.strategy.promoted_share, population)

    @cached_property
    def _populations(self) -> list[int]:
        """How many candidates each rung will have had, if no more enter and no open one fails."""
        populations = [len(self._rungs[0])]
        for here, above in pairwise(self._rungs):
            failed = sum(mean_accuracy(each) is None and not any(one.open for one in each) for each in here.values())
            expected = min(self._promoted(populations[-1]), populations[-1] - failed)
            populations.append(max(expected, len(above)))
        return populations

    def _above(self, rung: int) -> set[Architecture]:
        return set().union(*self._rungs[rung + 1 :])

    def _seeds_at(self, rung: int) -> tuple[int, ...]:
        return self.strategy.seeds if rung == self.strategy.rungs else self.strategy.seeds[:1]

    def _more_seeds(self) -> Iterator[int]:
        yield from self.strategy.seeds
        following = max(self.strategy.seeds) + 1
        yield from range(following, following + self.strategy.max_seeds + len(self.strategy.seeds))


def promoted(share: float, population: int) -> int:
    """How many of a rung's candidates go on to the next; a product that is whole but for rounding is whole."""
    return math.ceil(round(share * population, 9))


def mean_accuracy(outcomes: Sequence[Outcome]) -> float | None:
    """Over seeds; None if one of them has none: a candidate that fails once is not to be relied on."""
    accuracies = [outcome.accuracy for outcome in outcomes if outcome.accuracy is not None]
    return sum(accuracies) / len(accuracies) if len(accuracies) == len(outcomes) else None


def _sortable(accuracy: float | None) -> float:
    return -1.0 if accuracy is None else accuracy
