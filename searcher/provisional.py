"""What was asked for and is not there: a network that lacks some of it is provisional, and best at nothing.

A search asks for its seeds at its bit widths, of every network on its leaderboard. On the leaderboard of all searches,
that is asked for which any search asks for that has begun with the network by the full recipe, running or ended, of the
bit widths that are shown. What diverged is a result; what failed, was lost, cancelled or left out by a limit is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import String, cast, func, select

from searcher.ended_stages import ENDED, of_recipe
from searcher.tables import Evaluation, Event, Proposal, Search, Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from searcher.counting import Ranked
    from searcher.standings import EndedStage

Missing = dict[str, list[int]]
"""Seeds without a result, by bit widths; only those that lack some."""


def missing_of(asked: Mapping[str, Iterable[int]], there: Collection[tuple[str, int]]) -> Missing:
    """What of the seeds asked for, by bit widths, is not among the pairs of bit widths and seed that are there."""
    lacking = {bits: sorted({seed for seed in seeds if (bits, seed) not in there}) for bits, seeds in asked.items()}
    return {bits: seeds for bits, seeds in lacking.items() if seeds}


def in_words(missing: Missing) -> str:
    """
    >>> in_words({"W2A2": [1, 2], "W4A4": [0]})
    'W2A2 of seeds 1, 2; W4A4 of seed 0'
    """
    return "; ".join(
        f"{bits} of seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" for bits, seeds in missing.items()
    )


def pairs(ended: Iterable[Mapping[str, EndedStage]]) -> set[tuple[str, int]]:
    """Bit widths and seeds of one architecture's ended stages."""
    return {(bits, stage.seed) for by_bits in ended for bits, stage in by_bits.items()}


def missing_of_all_searches(
    session: Session, ranked: Ranked, bit_widths: Sequence[str], architectures: Collection[str]
) -> dict[str, Missing]:
    """What architectures lack on the leaderboard of all searches, whatever bit widths ``ranked`` says; by name."""
    own = (
        *of_recipe(ranked.task, ranked.task_version, ranked.numerics_version, ranked.float_recipe_hash),
        Evaluation.architecture.in_(architectures),
    )
    # Evaluation by evaluation: a join may read all proposals there are.
    begun = func.aggregate_strings(cast(Proposal.search_id, String), " ")
    wanting = select(begun).where(Proposal.evaluation_id == Evaluation.id).scalar_subquery()
    links = {
        (architecture, int(number))
        for architecture, numbers in session.execute(select(Evaluation.architecture, wanting).where(*own))
        for number in (numbers or "").split()
    }
    searches = {
        number: (seeds, names)
        for number, seeds, names in session.execute(
            select(Search.id, Search.seeds, Search.bit_widths).where(
                Search.id.in_({number for _, number in links}),
                Search.float_recipe_hash == ranked.float_recipe_hash,  # else it was a rung of that search
                Search.retraining_recipe_hash == ranked.retraining_recipe_hash,
            )
        )
    }
    asked: dict[str, dict[str, set[int]]] = {}
    for architecture, number in links:
        seeds, names = searches.get(number, ((), ()))
        for bits in bit_widths:
            if bits in names:
                asked.setdefault(architecture, {}).setdefault(bits, set()).update(seeds)
    ended = (
        select(Evaluation.architecture, Stage.bit_widths, Evaluation.seed)
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(
            *own,
            Stage.bit_widths.in_(bit_widths),
            Stage.retraining_recipe_hash == ranked.retraining_recipe_hash,
            Stage.status.in_(ENDED),
        )
    )
    there: dict[str, set[tuple[str, int]]] = {}
    for architecture, bits, seed in session.execute(ended):
        there.setdefault(architecture, set()).add((bits, seed))
    found = {name: missing_of(seeds, there.get(name, ())) for name, seeds in asked.items()}
    return {name: missing for name, missing in found.items() if missing}


def asked_revision(session: Session, ranked: Ranked) -> tuple[object, ...]:
    """Differs once another seed or bit widths may have been asked for, by whichever search of that recipe."""
    latest = select(func.max(Event.id)).where(Event.search_id == Search.id).correlate(Search).scalar_subquery()
    alike = (
        Search.task == ranked.task,
        Search.task_version == ranked.task_version,
        Search.numerics_version == ranked.numerics_version,
        Search.float_recipe_hash == ranked.float_recipe_hash,
        Search.retraining_recipe_hash == ranked.retraining_recipe_hash,
    )
    count, ended_at = session.execute(select(func.count(), func.max(Search.ended_at)).where(*alike)).one()
    running = session.scalars(select(func.max(latest)).where(*alike, Search.status == "running")).one()
    return count, ended_at, running
