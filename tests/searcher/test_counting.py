"""Standings: whatever happens in whatever order, they are what the stages say."""

from __future__ import annotations

from dataclasses import asdict
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from building import accept_stage, at_once, claim, post, rows, work_all
from sqlalchemy import select, text, update

from qcore import Architecture, BitWidths, Recipe, describe, get_task, stored_task
from searcher import leases, results
from searcher.board import Filters, Order
from searcher.boards import Boards
from searcher.costs import Costs
from searcher.counting import catch_up
from searcher.ended_stages import ENDED, ended_stages, of_recipe
from searcher.leaderboard import leaderboard_of_task
from searcher.situation import search_recipe
from searcher.standings import by_seed, standing_of
from searcher.tables import Evaluation, Leaderboard, Search, Stage, StoredStanding

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from searcher.database import Database
    from searcher.leases import Lease

OTHER_RECIPE = {"retraining": {"schedule": {"epochs": 1, "warmup_epochs": 0}, "lipschitz_scale": 1e-4}}
KEPT = set(StoredStanding.__table__.columns.keys()) - {"leaderboard_id", "revision"}


def recomputed(session: Session) -> dict[tuple[str, ...], dict[str, Any]]:
    """Every standing that the stages give, by what its leaderboard is told apart by."""
    found = {}
    ranked = (
        select(
            *(Evaluation.task, Evaluation.task_version, Evaluation.numerics_version, Evaluation.float_recipe_hash),
            *(Stage.retraining_recipe_hash, Stage.bit_widths),
        )
        .join(Stage, Stage.evaluation_id == Evaluation.id)
        .where(Stage.status.in_(ENDED), Stage.retraining_recipe_hash.is_not(None))
        .distinct()
    )
    recipes = dict(session.execute(select(Stage.retraining_recipe_hash, Stage.recipe)).all())
    for *evaluated, retraining, bits in session.execute(ranked).all():
        stages = session.execute(ended_stages(of_recipe(*evaluated), retraining, [bits]))
        task, quantizers = stored_task(*evaluated[:2]), Recipe.stored(recipes[retraining]).retraining.quantizers
        for architecture, ended in by_seed(stages, bits).items():
            costs = Costs.of(describe(Architecture.parse(architecture), task, [BitWidths.parse(bits)], quantizers))
            found[*evaluated, retraining, bits, architecture] = asdict(standing_of(ended, bits, costs))
    return found


def kept(session: Session) -> dict[tuple[str, ...], dict[str, Any]]:
    query = select(Leaderboard, StoredStanding).join(StoredStanding, StoredStanding.leaderboard_id == Leaderboard.id)
    return {
        (
            *(board.task, board.task_version, board.numerics_version, board.float_recipe_hash),
            *(board.retraining_recipe_hash, board.bit_widths, standing.architecture),
        ): {name: getattr(standing, name) for name in KEPT}
        for board, standing in session.execute(query)
    }


def next_stage(database: Database, lease: Lease) -> int | None:
    with database.write() as session:
        stage = results.next_stage(session, lease)
    return None if stage is None else stage.stage_id


@pytest.mark.parametrize("seed", range(3))
def test_standings_are_what_the_stages_say_whatever_came_in_whatever_order(database: Database, seed: int) -> None:
    random, boards, held = Random(seed), Boards(), []
    for number in range(3):
        post(
            database,
            proposed=True,
            widths=random.sample([3, 4, 5], 2),
            seeds=random.sample([0, 1, 2], 2),
            bit_widths=random.choice([["W2A2"], ["W2AF", "W2A2"]]),
            **({} if number else {"recipe": OTHER_RECIPE}),
        )
    for _ in range(50):
        what = random.choice(["claim", "end", "end", "end", "end", "look"])
        if what == "claim":
            with database.write() as session:
                if lease := leases.claim(session, "worker", 1000.0):
                    held.append(lease)
        elif what == "look":
            _shown_as_read_afresh(database, boards)
        elif held:
            lease = random.choice(held)
            if not _end_a_stage(database, lease, random.choice([None, 50.0, 50.0, 60.5, 80.25])):
                held.remove(lease)
    with database.read() as session:
        assert kept(session) == recomputed(session) != {}
    assert all(stage.counted == (stage.status in ENDED) for stage in rows(database, Stage))
    _shown_as_read_afresh(database, boards)


def _end_a_stage(database: Database, lease: Lease, accuracy: float | None) -> bool:
    """Whether there was one; without an accuracy it diverged."""
    stage = next_stage(database, lease)
    if stage is None:
        return False
    with database.write() as session:
        accept_stage(
            session,
            lease,
            stage,
            status="diverged" if accuracy is None else "done",
            validation_accuracy=accuracy,
            test_accuracy=None if accuracy is None else accuracy / 2,
        )
    return True


def _shown_as_read_afresh(database: Database, boards: Boards) -> None:
    with database.read() as session:
        for search in session.scalars(select(Search)):
            task, recipe = get_task(search.task), search_recipe(search)
            for bits in map(BitWidths.parse, search.bit_widths):
                asked = (session, task, recipe, [bits], Filters(max_parameters=4000), Order("-drop", limit=2))
                assert leaderboard_of_task(*asked, boards=boards) == leaderboard_of_task(*asked)


def test_two_seeds_that_end_at_once_are_both_counted(database: Database) -> None:
    count = 6
    for seed in range(count):  # each in a search of its own: one search's results wait for each other anyway
        post(database, proposed=True, widths=[3], seeds=[seed])
    held = [claim(database) for _ in range(count)]
    for lease in held:  # the float stages
        with database.write() as session:
            stage = results.next_stage(session, lease)
            assert stage is not None
            accept_stage(session, lease, stage.stage_id)
    stages = [next_stage(database, lease) for lease in held]

    def end(lease: Lease, stage: int | None) -> None:
        with database.write() as session:
            accept_stage(session, lease, stage or 0)

    at_once(*(lambda lease=lease, stage=stage: end(lease, stage) for lease, stage in zip(held, stages, strict=True)))

    (standing,), (leaderboard,) = rows(database, StoredStanding), rows(database, Leaderboard)
    assert (standing.seeds, leaderboard.revision, standing.revision) == (count, count, count)


def test_results_of_a_release_without_standings_are_counted(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4], seeds=[0, 1])
    assert work_all(database) == 4
    with database.write() as session:
        expected = kept(session)
        session.execute(update(Stage).values(counted=False))
        session.execute(text("DELETE FROM standings"))
        session.execute(text("DELETE FROM leaderboards"))

    catch_up(database)

    with database.read() as session:
        assert kept(session) == expected
        assert len(expected) == 2
    before = [board.revision for board in rows(database, Leaderboard)]
    catch_up(database)
    assert [board.revision for board in rows(database, Leaderboard)] == before


def test_what_this_release_cannot_describe_is_on_no_leaderboard_and_in_nobodys_way(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4])
    assert work_all(database) == 2
    with database.write() as session:
        session.execute(update(Evaluation).where(Evaluation.width == 3).values(architecture="spiral-L8-D3"))
        session.execute(update(Stage).values(counted=False))
        session.execute(text("DELETE FROM standings"))

    catch_up(database)

    assert [standing.architecture for standing in rows(database, StoredStanding)] == ["basic-L8-D4"]
    assert all(stage.counted for stage in rows(database, Stage))


def test_boards_forget_those_that_were_looked_at_longest_ago(sqlite_database: Database) -> None:
    post(sqlite_database, proposed=True, widths=[3, 4], bit_widths=["W2A2", "W2AF"])
    work_all(sqlite_database)
    boards, task = Boards(most_standings=3), get_task("digits")
    with sqlite_database.read() as session:
        recipe = search_recipe(session.get_one(Search, 1))
        for bits in ("W2A2", "W2AF", "W2A2"):
            assert leaderboard_of_task(session, task, recipe, [BitWidths.parse(bits)], boards=boards).total == 2
    assert len(boards._held) == 1


@pytest.mark.parametrize("revision", [5, 1])
def test_a_database_that_was_restored_is_read_afresh(sqlite_database: Database, revision: int) -> None:
    post(sqlite_database, proposed=True, widths=[3, 4, 5])
    work_all(sqlite_database)
    boards = Boards()
    with sqlite_database.read() as session:
        boards._held[1] = (4, boards.get(session, 1, 3, None))
        assert len(boards.get(session, 1, revision, None)) == 3
        assert boards._held[1][0] == revision
