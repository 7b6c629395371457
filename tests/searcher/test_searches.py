"""Searches: what they queue, share, cancel and count. A worker is played without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from building import (
    FLOAT_EPOCHS,
    RETRAINING_EPOCHS,
    claim,
    contents,
    kinds,
    nothing_to_claim,
    post,
    propose_candidates,
    recipe,
    record_epoch,
    rows,
    search_plan,
    stages_of,
    status_of,
    train_next_stage,
    unproposed_candidates,
    work,
    work_all,
)

from qcore import Architecture, get_task
from qcore import stages_of as planned_stages
from qcore.cost import parameters
from searcher import leases, results
from searcher.leaderboard import search_leaderboard
from searcher.leases import LeaseLost
from searcher.next_proposal import propose_next
from searcher.progress import Progress, candidates_of, progress
from searcher.searches import cancel_search, get_search, list_searches, settle
from searcher.situation import evaluations_left
from searcher.tables import Candidate, CurvePoint, Evaluation, Event, Proposal, Search, Stage
from searcher.workers import NO_WORKER

if TYPE_CHECKING:
    from searcher.database import Database


def _cancel(database: Database, search_id: int) -> None:
    with database.write() as session:
        cancel_search(session, search_id)


def _progress(database: Database, search_id: int) -> Progress:
    with database.read() as session:
        return progress(session, session.get_one(Search, search_id))


def _statuses(database: Database) -> list[str]:
    return [evaluation.status for evaluation in rows(database, Evaluation)]


def _free(database: Database, search_id: int) -> list[bool]:
    return [proposal.free for proposal in rows(database, Proposal, search_id=search_id)]


def test_creating_stores_the_search_its_candidates_and_an_event(database: Database) -> None:
    search_id = post(database, seeds=[4, 2], bit_widths=["W2A2", "W4AF"], max_evaluations=7)
    with database.read() as session:
        search = get_search(session, search_id)
        assert search is not None
        assert (search.status, search.task, search.task_version) == ("running", "digits", "1")
        assert (search.model_bytes_budget, search.bit_operations_budget) == (None, None)
        assert (search.parameter_budget, search.max_evaluations, search.engine) == (50_000, 7, "optuna")
        assert (search.seeds, search.bit_widths) == ([4, 2], ["W2A2", "W4AF"])
        assert search.created_at > 1.6e9
        assert search.ended_at is None
        candidates = unproposed_candidates(session, search)
    planned = search_plan().candidates
    assert [each.architecture for each in candidates] == [each.name for each in planned]
    assert [(each.block, each.depth, each.width) for each in candidates] == [
        ("basic", 8, width) for width in range(3, 8)
    ]
    task = get_task("digits")
    assert [each.parameters for each in candidates] == [parameters(each.layers(task)) for each in planned]
    (event,) = rows(database, Event, search_id=search_id)
    assert (event.kind, event.data) == ("search_created", {"candidates": 5})
    assert rows(database, Evaluation) == []


def test_every_budget_is_stored_and_none_is_required(database: Database) -> None:
    search_id = post(database, parameter_budget=None, model_bytes_budget=4000, bit_operations_budget=10**15)
    (search,) = rows(database, Search, id=search_id)
    assert (search.parameter_budget, search.model_bytes_budget, search.bit_operations_budget) == (None, 4000, 10**15)
    assert [each.width for each in rows(database, Candidate)] == [
        each.width for each in search_plan(parameter_budget=None, model_bytes_budget=4000).candidates
    ]


def test_proposing_queues_an_evaluation_per_seed_with_its_stages(database: Database) -> None:
    search_id = post(database, seeds=[0, 3], bit_widths=["W2A2", "WFA2"], widths=[5])
    propose_candidates(database, search_id)
    evaluations = rows(database, Evaluation)
    assert sorted((each.architecture, each.seed, each.status, each.attempt) for each in evaluations) == [
        ("basic-L8-D5", 0, "queued", 0),
        ("basic-L8-D5", 3, "queued", 0),
    ]
    plan = search_plan(bit_widths=["W2A2", "WFA2"])
    for evaluation in evaluations:
        stages = planned_stages(plan.task, Architecture("basic", 8, 5), plan.recipe, evaluation.seed, plan.bit_widths)
        found = {stage.bit_widths: stage for stage in rows(database, Stage, evaluation_id=evaluation.id)}
        assert {name: stage.key for name, stage in found.items()} == {str(each.bit_widths): each.key for each in stages}
        assert evaluation.float_key == found["float"].key
        assert {stage.status for stage in found.values()} == {"pending"}
        assert {name: stage.epochs for name, stage in found.items()} == {
            "float": FLOAT_EPOCHS,
            "W2A2": RETRAINING_EPOCHS,
            "WFA2": RETRAINING_EPOCHS,
        }
    assert _free(database, search_id) == [False, False]
    assert kinds(database, search_id) == ["search_created", "candidate_proposed"]


def test_stages_are_handed_out_float_first_then_in_the_order_of_the_search(sqlite_database: Database) -> None:
    post(sqlite_database, proposed=True, bit_widths=["WFA2", "W4A4", "W2A2"], widths=[3])
    assert work(sqlite_database, claim(sqlite_database)) == ["float", "WFA2", "W4A4", "W2A2"]


def test_a_search_is_finished_when_its_last_evaluation_ends(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3, 4])
    work(database, claim(database))
    assert status_of(database, search_id) == "running"
    work(database, claim(database))
    assert status_of(database, search_id) == "finished"
    assert _statuses(database) == ["done", "done"]
    assert kinds(database, search_id)[2:] == [
        "candidate_proposed",
        *["evaluation_started", "stage_ended", "stage_ended", "evaluation_done"] * 2,
        "search_finished",
    ]
    (search,) = rows(database, Search)
    assert search.ended_at is not None
    assert search.ended_at >= search.created_at


def test_stage_events_say_what_was_stored(sqlite_database: Database) -> None:
    search_id = post(sqlite_database, proposed=True, widths=[6], seeds=[2])
    lease = claim(sqlite_database)
    work(sqlite_database, lease)
    told = [event.data for event in rows(sqlite_database, Event, search_id=search_id, kind="stage_ended")]
    assert told[1] == {
        "evaluation": lease.evaluation_id,
        "architecture": "basic-L8-D6",
        "seed": 2,
        "bit_widths": "W2A2",
        "status": "done",
        "validation_accuracy": 46.5,
        "test_accuracy": 45.5,
        "divergence": None,
    }
    stage = stages_of(sqlite_database, lease.evaluation_id)["W2A2"]
    assert (stage.status, stage.validation_accuracy, stage.test_accuracy) == ("done", 46.5, 45.5)
    assert (stage.epochs_done, stage.train_seconds, stage.provenance) == (1, 1.5, {"threads": 1})


def test_settling_leaves_a_search_alone_that_may_still_propose(sqlite_database: Database) -> None:
    search_id = post(sqlite_database, widths=[3, 4])
    propose_candidates(sqlite_database, search_id, most=1)
    work(sqlite_database, claim(sqlite_database))
    with sqlite_database.write() as session:
        settle(session, session.get_one(Search, search_id))
    assert status_of(sqlite_database, search_id) == "running"


def test_settling_leaves_a_search_alone_that_has_something_open(sqlite_database: Database) -> None:
    search_id = post(sqlite_database, proposed=True, widths=[3, 4])
    work(sqlite_database, claim(sqlite_database))
    claim(sqlite_database)
    with sqlite_database.write() as session:
        settle(session, session.get_one(Search, search_id))
    assert status_of(sqlite_database, search_id) == "running"


def test_an_exhausted_limit_finishes_a_search_with_candidates_left(database: Database) -> None:
    search_id = post(database, max_evaluations=2)
    propose_candidates(database, search_id, most=2)
    with database.read() as session:
        assert evaluations_left(session, session.get_one(Search, search_id)) == 0
    assert work_all(database) == 2
    assert status_of(database, search_id) == "finished"
    assert len(rows(database, Proposal)) == 2


def test_the_limit_counts_evaluations_and_not_candidates(database: Database) -> None:
    search_id = post(database, max_evaluations=3, seeds=[0, 1])
    propose_candidates(database, search_id, most=2)
    assert _free(database, search_id) == [False, False, False]
    assert len(rows(database, Evaluation)) == 3
    assert {proposal.candidate_id for proposal in rows(database, Proposal)} == {
        candidate.id for candidate in rows(database, Candidate)[:2]
    }


def test_the_limit_does_not_count_stored_results(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4, 5])
    work_all(database)
    search_id = post(database, max_evaluations=1, widths=[3, 4, 5, 6, 7])
    assert _free(database, search_id) == [True, True, True]
    with database.read() as session:
        assert evaluations_left(session, session.get_one(Search, search_id)) == 1
    propose_candidates(database, search_id, most=1)
    assert work_all(database) == 1
    assert status_of(database, search_id) == "finished"
    assert sorted(each.architecture for each in rows(database, Evaluation)) == [
        f"basic-L8-D{width}" for width in (3, 4, 5, 6)
    ]


def test_searches_share_evaluations_and_the_stages_they_have_in_common(database: Database) -> None:
    one = post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4"])
    other = post(database, proposed=True, widths=[3], bit_widths=["W4A4", "WFA2"])
    (evaluation,) = rows(database, Evaluation)
    assert sorted(stages_of(database, evaluation.id)) == ["W2A2", "W4A4", "WFA2", "float"]
    assert len(rows(database, Stage)) == 4
    assert [proposal.search_id for proposal in rows(database, Proposal)] == [one, other]
    assert work(database, claim(database)) == ["float", "W2A2", "W4A4", "WFA2"]
    assert (status_of(database, one), status_of(database, other)) == ("finished", "finished")
    assert nothing_to_claim(database)


def test_a_search_hears_only_of_the_stages_it_wants(sqlite_database: Database) -> None:
    one = post(sqlite_database, proposed=True, widths=[3], bit_widths=["W2A2"])
    other = post(sqlite_database, proposed=True, widths=[3], bit_widths=["WFA2"])
    work_all(sqlite_database)
    heard = {
        search_id: [
            event.data["bit_widths"] for event in rows(sqlite_database, Event, search_id=search_id, kind="stage_ended")
        ]
        for search_id in (one, other)
    }
    assert heard == {one: ["float", "W2A2"], other: ["float", "WFA2"]}


def test_another_retraining_recipe_shares_the_float_stage_only(database: Database) -> None:
    one = post(database, proposed=True, widths=[3])
    work_all(database)
    other = post(database, proposed=True, widths=[3], recipe=recipe(retraining_epochs=5))
    (evaluation,) = rows(database, Evaluation)
    assert sorted((stage.bit_widths, stage.epochs, stage.status) for stage in rows(database, Stage)) == [
        ("W2A2", 1, "done"),
        ("W2A2", 5, "pending"),
        ("float", 2, "done"),
    ]
    assert (evaluation.status, status_of(database, one), status_of(database, other)) == (
        "queued",
        "finished",
        "running",
    )
    assert work(database, claim(database)) == ["W2A2"]
    assert status_of(database, other) == "finished"


@pytest.mark.parametrize("changed", [{"recipe": recipe(float_epochs=3)}, {"seeds": [1]}])
def test_another_float_recipe_or_seed_is_another_evaluation(
    sqlite_database: Database, changed: dict[str, object]
) -> None:
    post(sqlite_database, proposed=True, widths=[3])
    post(sqlite_database, proposed=True, widths=[3], **changed)
    assert len(rows(sqlite_database, Evaluation)) == 2
    assert len(rows(sqlite_database, Stage)) == 4


def test_asking_for_other_bit_widths_later_queues_only_the_missing_stages(database: Database) -> None:
    post(database, proposed=True, widths=[3], bit_widths=["W2A2"])
    lease = claim(database)
    work(database, lease)
    before = stages_of(database, lease.evaluation_id)
    later = post(database, widths=[3], bit_widths=["W2A2", "W4A4"])
    assert _free(database, later) == []
    propose_candidates(database, later)
    assert _free(database, later) == [False]
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.ended_at) == ("queued", 0, None)
    again = claim(database)
    assert again.evaluation_id == lease.evaluation_id
    assert work(database, again) == ["W4A4"]
    after = stages_of(database, lease.evaluation_id)
    for name in ("float", "W2A2"):
        assert (after[name].id, after[name].ended_at) == (before[name].id, before[name].ended_at)
    assert status_of(database, later) == "finished"


def test_stages_asked_for_while_the_evaluation_runs_are_handed_out_before_it_ends(database: Database) -> None:
    one = post(database, proposed=True, widths=[3], bit_widths=["W2A2"])
    lease = claim(database)
    assert [train_next_stage(database, lease) for _ in range(2)] == ["float", "W2A2"]
    other = post(database, proposed=True, widths=[3], bit_widths=["W8A8", "W2A2"])
    assert _statuses(database) == ["running"]
    assert nothing_to_claim(database)
    assert train_next_stage(database, lease) == "W8A8"
    assert train_next_stage(database, lease) is None
    assert _statuses(database) == ["done"]
    assert (status_of(database, one), status_of(database, other)) == ("finished", "finished")


def test_a_repeated_search_is_finished_at_creation(database: Database) -> None:
    first = post(database, proposed=True, seeds=[0, 1], bit_widths=["W2A2", "W2AF"])
    work_all(database)
    before = contents(database)
    again = post(database, seeds=[1, 0], bit_widths=["W2AF", "W2A2"])
    assert status_of(database, again) == "finished"
    assert _free(database, again) == [True] * 10
    assert nothing_to_claim(database)
    after = contents(database)
    assert (after["evaluations"], after["stages"]) == (before["evaluations"], before["stages"])
    assert kinds(database, again) == ["search_created", *["candidate_proposed"] * 5, "search_finished"]
    with database.read() as session:
        boards = [search_leaderboard(session, session.get_one(Search, each)) for each in (first, again)]
    assert [entry.architecture for entry in boards[0]] == [entry.architecture for entry in boards[1]]
    assert [entry.seeds for entry in boards[1]] == [[0, 1]] * 5


def test_a_repeated_search_waits_for_results_that_another_still_trains(sqlite_database: Database) -> None:
    post(sqlite_database, proposed=True, widths=[3])
    lease = claim(sqlite_database)
    train_next_stage(sqlite_database, lease)
    again = post(sqlite_database, proposed=True, widths=[3])
    assert _free(sqlite_database, again) == [False]
    assert work(sqlite_database, lease) == ["W2A2"]
    assert status_of(sqlite_database, again) == "finished"


def test_cancelling_takes_evaluations_from_queue_and_holder(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3, 4])
    lease = claim(database)
    train_next_stage(database, lease)
    stage = stages_of(database, lease.evaluation_id)["W2A2"]
    _cancel(database, search_id)
    assert status_of(database, search_id) == "cancelled"
    assert _statuses(database) == ["cancelled", "cancelled"]
    assert kinds(database, search_id)[-1] == "search_cancelled"
    assert nothing_to_claim(database)
    before = contents(database)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.renew(session, lease, 1000.0)
    with pytest.raises(LeaseLost), database.write() as session:
        record_epoch(session, lease, stage.id)
    with pytest.raises(LeaseLost):
        train_next_stage(database, lease)
    assert contents(database) == before


def test_cancelling_keeps_results_that_are_there(sqlite_database: Database) -> None:
    search_id = post(sqlite_database, proposed=True, widths=[3, 4])
    work(sqlite_database, claim(sqlite_database))
    _cancel(sqlite_database, search_id)
    assert _statuses(sqlite_database) == ["done", "cancelled"]
    with sqlite_database.read() as session:
        board = search_leaderboard(session, session.get_one(Search, search_id))
    assert [entry.architecture for entry in board] == ["basic-L8-D3"]


def test_what_another_running_search_wants_goes_on_after_a_cancellation(database: Database) -> None:
    one = post(database, proposed=True, widths=[3, 4], bit_widths=["W4A4", "W2A2"])
    other = post(database, proposed=True, widths=[4, 5], bit_widths=["W2A2"])
    leases_by_width = {width: claim(database) for width in (3, 4)}
    _cancel(database, one)
    assert _statuses(database) == ["cancelled", "running", "queued"]
    with pytest.raises(LeaseLost):
        train_next_stage(database, leases_by_width[3])
    assert work(database, leases_by_width[4]) == ["float", "W2A2"]
    assert stages_of(database, leases_by_width[4].evaluation_id)["W4A4"].status == "pending"
    work_all(database)
    assert (status_of(database, one), status_of(database, other)) == ("cancelled", "finished")


def test_a_stage_that_only_a_cancelled_search_wanted_is_not_trained(sqlite_database: Database) -> None:
    one = post(sqlite_database, proposed=True, widths=[3])
    post(sqlite_database, proposed=True, widths=[3], recipe=recipe(retraining_epochs=5))
    _cancel(sqlite_database, one)
    assert work(sqlite_database, claim(sqlite_database)) == ["float", "W2A2"]
    stages = rows(sqlite_database, Stage, bit_widths="W2A2")
    assert {stage.epochs: stage.status for stage in stages} == {1: "pending", 5: "done"}


def test_an_evaluation_that_only_ended_searches_want_is_cancelled(sqlite_database: Database) -> None:
    for _ in range(2):
        search_id = post(sqlite_database, proposed=True, widths=[3])
    _cancel(sqlite_database, search_id - 1)
    assert _statuses(sqlite_database) == ["queued"]
    _cancel(sqlite_database, search_id)
    assert _statuses(sqlite_database) == ["cancelled"]


@pytest.mark.parametrize("ended", ["cancelled", "finished"])
def test_cancelling_a_search_that_ended_changes_nothing(database: Database, ended: str) -> None:
    search_id = post(database, proposed=True, widths=[3])
    if ended == "cancelled":
        _cancel(database, search_id)
    else:
        work_all(database)
    assert status_of(database, search_id) == ended
    before = contents(database)
    with database.write() as session:
        search = cancel_search(session, search_id)
        assert search is not None
        assert search.status == ended
    assert contents(database) == before


def test_there_is_nothing_to_cancel_where_there_is_no_search(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        assert cancel_search(session, 1234) is None


def test_a_cancelled_evaluation_is_queued_again_when_another_search_wants_it(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    lease = claim(database)
    train_next_stage(database, lease)
    _cancel(database, search_id)
    again = post(database, proposed=True, widths=[3])
    (evaluation,) = rows(database, Evaluation)
    assert (evaluation.status, evaluation.attempt, evaluation.ended_at) == ("queued", 0, None)
    with pytest.raises(LeaseLost):
        train_next_stage(database, lease)
    assert work(database, claim(database)) == ["W2A2"]
    assert (status_of(database, search_id), status_of(database, again)) == ("cancelled", "finished")


def test_a_failed_evaluation_leaves_the_others_results_and_ends_with_the_search(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3, 4, 5])
    work(database, claim(database))
    failing = claim(database)
    train_next_stage(database, failing)
    with database.write() as session:
        results.fail_evaluation(session, failing, "RuntimeError: out of memory")
    assert status_of(database, search_id) == "running"
    work(database, claim(database))
    assert status_of(database, search_id) == "finished"
    assert [(each.status, each.error) for each in rows(database, Evaluation)] == [
        ("done", None),
        ("failed", "RuntimeError: out of memory"),
        ("done", None),
    ]
    with database.read() as session:
        board = search_leaderboard(session, session.get_one(Search, search_id))
    assert [(entry.rank, entry.architecture) for entry in board] == [(1, "basic-L8-D5"), (2, "basic-L8-D3")]
    (told,) = rows(database, Event, search_id=search_id, kind="evaluation_failed")
    assert told.data["error"] == "RuntimeError: out of memory"


def test_a_failed_evaluation_is_tried_again_for_a_new_search(sqlite_database: Database) -> None:
    post(sqlite_database, proposed=True, widths=[3])
    with sqlite_database.write() as session:
        results.fail_evaluation(session, leases.claim(session, "worker", 1000.0), "no data")
    assert nothing_to_claim(sqlite_database)
    post(sqlite_database, proposed=True, widths=[3])
    assert work(sqlite_database, claim(sqlite_database)) == ["float", "W2A2"]
    assert [(each.status, each.error) for each in rows(sqlite_database, Evaluation)] == [("done", None)]


def test_progress_counts_epochs_and_evaluations(database: Database) -> None:
    search_id = post(database, widths=[3, 4, 5], seeds=[0, 1], bit_widths=["W2A2", "W4A4"])
    each = FLOAT_EPOCHS + 2 * RETRAINING_EPOCHS
    assert _progress(database, search_id) == Progress(3, 0, {}, 0, 6 * each, waits_for=NO_WORKER)
    propose_candidates(database, search_id, most=2)
    assert _progress(database, search_id) == Progress(3, 2, {"queued": 4}, 0, 6 * each, waits_for=NO_WORKER)
    work(database, claim(database))
    lease = claim(database)
    with database.write() as session:
        stage = results.next_stage(session, lease)
        assert stage is not None
        record_epoch(session, lease, stage.stage_id, epoch=1)
    counted = {"done": 1, "running": 1, "queued": 2}
    assert _progress(database, search_id) == Progress(3, 2, counted, each + 1, 6 * each, waits_for=NO_WORKER)


def test_progress_expects_no_more_than_the_limit_allows(database: Database) -> None:
    search_id = post(database, max_evaluations=2)
    each = FLOAT_EPOCHS + RETRAINING_EPOCHS
    assert _progress(database, search_id).epochs_total == 2 * each
    propose_candidates(database, search_id, most=2)
    work_all(database)
    assert _progress(database, search_id) == Progress(5, 2, {"done": 2}, 2 * each, 2 * each)


def test_progress_counts_only_the_stages_that_the_search_wants(database: Database) -> None:
    post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4", "W8A8"], recipe=recipe())
    post(database, proposed=True, widths=[3], bit_widths=["W2A2"], recipe=recipe(retraining_epochs=9))
    work_all(database)
    search_id = post(database, widths=[3, 4], bit_widths=["W2A2"])
    each = FLOAT_EPOCHS + RETRAINING_EPOCHS
    assert _progress(database, search_id) == Progress(2, 1, {"done": 1}, each, 2 * each, waits_for=NO_WORKER)


def test_a_diverged_stage_counts_as_trained(sqlite_database: Database) -> None:
    search_id = post(sqlite_database, proposed=True, widths=[3])
    lease = claim(sqlite_database)
    for _ in range(2):
        with sqlite_database.write() as session:
            stage = results.next_stage(session, lease)
            assert stage is not None
            results.accept_stage(
                session,
                lease,
                stage.stage_id,
                status="diverged",
                validation_accuracy=None,
                test_accuracy=None,
                train_seconds=0.5,
                provenance={},
            )
    assert train_next_stage(sqlite_database, lease) is None
    assert status_of(sqlite_database, search_id) == "finished"
    assert _progress(sqlite_database, search_id).epochs_done == FLOAT_EPOCHS + RETRAINING_EPOCHS


def test_the_first_result_of_a_stage_stands(database: Database) -> None:
    search_id = post(database, proposed=True, widths=[3])
    lease = claim(database)
    stage = stages_of(database, lease.evaluation_id)["float"]
    for accuracy in (80.0, 20.0):
        with database.write() as session:
            results.accept_stage(
                session,
                lease,
                stage.id,
                status="done",
                validation_accuracy=accuracy,
                test_accuracy=accuracy,
                train_seconds=1.0,
                provenance={},
            )
    assert stages_of(database, lease.evaluation_id)["float"].validation_accuracy == 80.0
    assert kinds(database, search_id).count("stage_ended") == 1


def test_an_epoch_that_is_recorded_again_is_there_once(database: Database) -> None:
    post(database, proposed=True, widths=[3])
    lease = claim(database)
    stage = stages_of(database, lease.evaluation_id)["float"]
    for epoch, loss in ((1, 2.0), (2, 1.0), (2, float("nan"))):
        with database.write() as session:
            results.record_epoch(
                session, lease, stage.id, epoch=epoch, train_loss=loss, validation_accuracy=50.0, learning_rate=0.1
            )
    points = rows(database, CurvePoint)
    assert [(point.epoch, point.train_loss) for point in points] == [(1, 2.0), (2, None)]
    assert stages_of(database, lease.evaluation_id)["float"].epochs_done == 2


def test_what_block_depth_and_width_do_not_say_of_a_candidate_survives_the_tables(database: Database) -> None:
    names = ["mobilenetv2-x0.05", "mobilenetv2-x0.1", "basic-L8-D3"]
    search_id = post(database, architectures=names, blocks=None, depths=None, widths=None, parameter_budget=200_000)
    while propose_next(database):
        pass
    assert work_all(database) == 3
    assert status_of(database, search_id) == "finished"
    keys = {
        stage.key for evaluation in rows(database, Evaluation) for stage in stages_of(database, evaluation.id).values()
    }
    planned = search_plan(architectures=names, blocks=None, depths=None, widths=None, parameter_budget=200_000)
    expected = [
        planned_stages(planned.task, each, planned.recipe, 0, planned.bit_widths) for each in planned.candidates
    ]
    assert keys == {stage.key for stages in expected for stage in stages}
    with database.read() as session:
        entries = search_leaderboard(session, session.get_one(Search, search_id))
    assert sorted(entry.architecture for entry in entries) == sorted(names)
    assert {entry.architecture: (entry.block, entry.depth, entry.width) for entry in entries} == {
        "mobilenetv2-x0.05": ("mobilenetv2", 53, 8),
        "mobilenetv2-x0.1": ("mobilenetv2", 53, 8),
        "basic-L8-D3": ("basic", 8, 3),
    }


def test_searches_are_listed_newest_first_in_pages(sqlite_database: Database) -> None:
    ids = [post(sqlite_database, widths=[3]) for _ in range(5)]
    with sqlite_database.read() as session:
        assert [search.id for search in list_searches(session, 2)] == [ids[4], ids[3]]
        assert [search.id for search in list_searches(session, 2, before_id=ids[3])] == [ids[2], ids[1]]


def test_candidates_come_with_the_evaluations_proposed_for_them(database: Database) -> None:
    search_id = post(database, widths=[3, 4], seeds=[5, 1])
    propose_candidates(database, search_id, most=1)
    with database.read() as session:
        listed = candidates_of(session, session.get_one(Search, search_id))
    assert [(candidate.width, [each.seed for each in found]) for candidate, found in listed] == [
        (3, [1, 5]),
        (4, []),
    ]


def test_a_search_that_has_all_it_wanted_does_not_wait_for_what_others_want(sqlite_database: Database) -> None:
    database = sqlite_database
    few = post(database, proposed=True, widths=[3], bit_widths=["W2A2"])
    many = post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4", "W8A8"])
    lease = claim(database)
    assert [train_next_stage(database, lease) for _ in range(3)] == ["float", "W2A2", "W4A4"]
    assert (status_of(database, few), status_of(database, many)) == ("finished", "running")


def test_a_result_is_done_for_those_who_wanted_no_more_of_a_cancelled_evaluation(database: Database) -> None:
    first = post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4"])
    lease = claim(database)
    assert [train_next_stage(database, lease) for _ in range(2)] == ["float", "W2A2"]
    with database.write() as session:
        cancel_search(session, first)
    second = post(database, widths=[3], bit_widths=["W2A2"])
    assert status_of(database, second) == "finished"
    with database.read() as session:
        assert progress(session, session.get_one(Search, first)).evaluations == {"cancelled": 1}
        assert progress(session, session.get_one(Search, second)).evaluations == {"done": 1}


def test_cancelling_ends_what_no_other_search_has_yet_to_get(database: Database) -> None:
    more = post(database, proposed=True, widths=[3], bit_widths=["W2A2", "W4A4"])
    less = post(database, proposed=True, widths=[3, 4], bit_widths=["W2A2"])
    lease = claim(database)
    assert [train_next_stage(database, lease) for _ in range(2)] == ["float", "W2A2"]
    with database.write() as session:
        cancel_search(session, more)
    assert status_of(database, less) == "running"
    with pytest.raises(LeaseLost), database.write() as session:
        leases.renew(session, lease, 1.0)
