"""What ``collect_garbage`` removes from a store, and what it never does."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from building import (
    at_once,
    claim,
    post,
    propose_candidates,
    recipe,
    rows,
    stages_in_order,
    stages_of,
    train_next_stage,
    work,
    work_all,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from qcore import BitWidths, InvalidInput, get_task
from searcher import artifacts as store
from searcher.artifacts import Artifacts, checkpoint_file, network_file
from searcher.database import Database
from searcher.leaderboard import leaderboard_of_task
from searcher.retention import GRACE_SECONDS, collect_garbage
from searcher.searches import cancel_search
from searcher.situation import search_recipe
from searcher.tables import Evaluation, Search, Stage

DAY = 86_400.0
ORPHAN = network_file("", "0f" * 32)
UNKNOWN = checkpoint_file("e" * 64)
LEFTOVER = f"networks/ab/.{'ab' * 32}.safetensors.{'0' * 16}"
FOREIGN = ["networks/readme.txt", "networks/ab/cd/" + "f" * 64 + ".safetensors", "checkpoints/.hidden"]


def store_networks(database: Database, artifacts: Artifacts) -> None:
    """Gives every ended stage a network; that says which stage it is of."""
    with database.write() as session:
        for stage in rows(database, Stage):
            if stage.status != "pending":
                digest = artifacts.write_network(stage.key.encode())
                session.execute(update(Stage).where(Stage.id == stage.id).values(network_digest=digest))


def networks_of(stages: Iterable[Stage]) -> set[str]:
    return {network_file(stage.key, stage.network_digest) for stage in stages}


def names(artifacts: Artifacts) -> set[str]:
    return {file.name for file in artifacts.files()}


def make_old(folder: Path, *, days: float = 2.0) -> None:
    """Lets every file have been written so long ago."""
    written = time.time() - days * DAY
    for path in folder.rglob("*"):
        os.utime(path, (written, written))


def collected(database: Database, artifacts: Artifacts, **options: Any) -> set[str]:
    garbage = collect_garbage(database, artifacts, **({"older_than_seconds": DAY} | options))
    return {file.name for file in garbage}


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "store")


def test_what_no_stage_needs_is_removed(database: Database, artifacts: Artifacts, tmp_path: Path) -> None:
    post(database, proposed=True)
    work(database, claim(database))
    train_next_stage(database, claim(database))
    store_networks(database, artifacts)
    stages = stages_in_order(database)
    for stage in stages:
        artifacts.checkpoint(stage.key).write(b"state")
    for name in (ORPHAN, UNKNOWN, LEFTOVER, *FOREIGN):
        artifacts.write(name, b"12345678")
    make_old(tmp_path)
    # The evaluation of the third stage, float and done, is running: should its network be lost, it is trained again.
    ended = [stage for stage in stages if stage.status != "pending"]
    assert [stage.bit_widths for stage in ended] == ["float", "W2A2", "float"]
    garbage = {ORPHAN, UNKNOWN, LEFTOVER, *(checkpoint_file(stage.key) for stage in ended[:2])}
    kept = names(artifacts) - garbage
    assert collected(database, artifacts, dry_run=True) == garbage
    assert names(artifacts) == kept | garbage
    found = collect_garbage(database, artifacts, older_than_seconds=DAY)
    assert {file.name for file in found} == garbage
    assert {file.kind for file in found} == {"checkpoints", "networks", "leftovers"}
    assert [file.size for file in found if file.name == ORPHAN] == [8]
    assert names(artifacts) == kept
    assert networks_of(ended) <= kept
    assert collected(database, artifacts) == set()


def test_networks_that_an_earlier_release_stored_by_key_stay(
    database: Database, artifacts: Artifacts, tmp_path: Path
) -> None:
    post(database, proposed=True)
    work(database, claim(database))
    for stage in rows(database, Stage):
        artifacts.write(network_file(stage.key, None), b"network")
        artifacts.write(f"checkpoints/{stage.key}.safetensors", b"state")
    make_old(tmp_path)
    ended = {stage.key for stage in rows(database, Stage, status="done")}
    collected(database, artifacts)
    assert names(artifacts) == {network_file(key, None) for key in ended}


@pytest.mark.parametrize("older_than_seconds", [0.0, DAY])
def test_young_files_stay_whatever_is_asked(
    database: Database, artifacts: Artifacts, tmp_path: Path, older_than_seconds: float
) -> None:
    post(database, proposed=True)
    work(database, claim(database))
    store_networks(database, artifacts)
    for name in (ORPHAN, UNKNOWN, LEFTOVER):
        artifacts.write(name, b"young")
    make_old(tmp_path, days=max(older_than_seconds, GRACE_SECONDS) / DAY - 0.01)
    assert collected(database, artifacts, older_than_seconds=older_than_seconds) == set()
    make_old(tmp_path, days=max(older_than_seconds, GRACE_SECONDS) / DAY + 0.01)
    assert collected(database, artifacts, older_than_seconds=older_than_seconds) == {ORPHAN, UNKNOWN, LEFTOVER}


def test_a_network_stored_anew_while_files_are_listed_stays(
    database: Database, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(database, proposed=True)
    work(database, claim(database))
    store_networks(database, artifacts)
    content = b"left by a worker that died before its result was committed"
    name = network_file("", artifacts.write_network(content))
    make_old(tmp_path)
    real = artifacts.files

    def files() -> Any:
        found = real()
        artifacts.write_network(content)
        return found

    monkeypatch.setattr(artifacts, "files", files)
    assert collected(database, artifacts) == set()
    assert name in names(artifacts)


def test_a_network_that_is_being_stored_anew_while_it_is_looked_at_stays(
    sqlite_database: Database, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(sqlite_database, proposed=True)
    work(sqlite_database, claim(sqlite_database))
    store_networks(sqlite_database, artifacts)
    content = b"left by a worker that died before its result was committed"
    name = network_file("", artifacts.write_network(content))
    make_old(tmp_path)
    is_waited_for, real_write, real_wait = threading.Event(), store.write_whole, store._wait_for_writers

    def write_when_waited_for(path: Path, written: bytes) -> None:
        collecting.start()
        assert is_waited_for.wait(60)
        real_write(path, written)

    def wait() -> None:
        is_waited_for.set()
        real_wait()

    found: list[set[str]] = []
    collecting = threading.Thread(target=lambda: found.append(collected(sqlite_database, artifacts)))
    monkeypatch.setattr(store, "write_whole", write_when_waited_for)
    monkeypatch.setattr(store, "_wait_for_writers", wait)
    artifacts.write_network(content)
    collecting.join(60)
    assert found == [set()]
    assert name in names(artifacts)


def test_two_who_collect_at_once_remove_every_file_once(
    database: Database, artifacts: Artifacts, tmp_path: Path
) -> None:
    post(database, proposed=True)
    work(database, claim(database))
    store_networks(database, artifacts)
    for number in range(20):
        artifacts.write_network(b"orphan %d" % number)
    make_old(tmp_path)
    kept = networks_of(stage for stage in rows(database, Stage) if stage.status != "pending")
    found = at_once(*[lambda: collected(database, artifacts)] * 3)
    assert sum(map(len, found)) == len(set().union(*found)) == 20
    assert names(artifacts) == kept


def test_nothing_is_removed_beside_somebody_who_does_not_come_to_an_end_with_writing(
    sqlite_database: Database, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(sqlite_database, proposed=True)
    work(sqlite_database, claim(sqlite_database))
    store_networks(sqlite_database, artifacts)
    artifacts.write(ORPHAN, b"network")
    make_old(tmp_path)
    monkeypatch.setattr(store, "_wait_for_writers", lambda: None)
    with artifacts._beside_writers(), pytest.raises(InvalidInput, match="is a process paused"):
        collected(sqlite_database, artifacts)
    assert ORPHAN in names(artifacts)


def test_where_a_file_system_has_no_locks_files_are_written_and_removed_without(
    sqlite_database: Database, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store.fcntl, "flock", flock)
    post(sqlite_database, proposed=True)
    work(sqlite_database, claim(sqlite_database))
    store_networks(sqlite_database, artifacts)
    artifacts.write(ORPHAN, b"network")
    make_old(tmp_path)
    assert collected(sqlite_database, artifacts) == {ORPHAN}


def test_a_result_committed_while_files_are_listed_keeps_its_network(
    database: Database, artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(database, proposed=True)
    work(database, claim(database))
    store_networks(database, artifacts)
    digest = artifacts.write_network(b"network")
    make_old(tmp_path)
    real = artifacts.files

    def files() -> Any:
        found = real()
        with database.write() as session:
            stage = session.get_one(Stage, rows(database, Stage, status="pending")[0].id)
            stage.status, stage.network_digest = "done", digest
        return found

    monkeypatch.setattr(artifacts, "files", files)
    assert collected(database, artifacts) == set()


def test_the_store_of_another_database_is_refused(database: Database, artifacts: Artifacts, tmp_path: Path) -> None:
    post(database, proposed=True)
    assert collected(database, artifacts) == set()
    artifacts.write(ORPHAN, b"network")
    artifacts.write(UNKNOWN, b"state")
    make_old(tmp_path)
    with pytest.raises(InvalidInput, match=r"holds 2 files of which .* knows none") as refused:
        collect_garbage(database, artifacts, older_than_seconds=0.0)
    assert "QUANTRANK_DATABASE_URL" in refused.value.remedy
    assert names(artifacts) == {ORPHAN, UNKNOWN}


def test_only_the_best_of_every_leaderboard_are_kept_when_asked(
    database: Database, artifacts: Artifacts, tmp_path: Path
) -> None:
    post(database, proposed=True, bit_widths=["W2A2", "WFA2"], seeds=[0, 1])  # the widest is best, made up
    post(database, proposed=True, recipe=recipe(retraining_epochs=2), widths=[3, 4])
    work_all(database)
    store_networks(database, artifacts)
    make_old(tmp_path)
    evaluations = {each.id: each for each in rows(database, Evaluation)}

    def kept(most: int) -> dict[tuple[int, int], list[str]]:
        """Bit widths of the kept networks by width and seed."""
        garbage = collected(database, artifacts, keep_top=most, dry_run=True)
        found: dict[tuple[int, int], list[str]] = {}
        for stage in rows(database, Stage):
            if network_file(stage.key, stage.network_digest) not in garbage:
                evaluation = evaluations[stage.evaluation_id]
                found.setdefault((evaluation.width, evaluation.seed), []).append(stage.bit_widths)
        return {each: sorted(bits) for each, bits in found.items()}

    both = ["W2A2", "WFA2", "float"]
    assert kept(1) == {(7, 0): both, (7, 1): both, (4, 0): ["W2A2", "float"]}
    assert kept(2) == {(7, 0): both, (7, 1): both, (6, 0): both, (6, 1): both} | {
        (width, 0): ["W2A2", "float"] for width in (3, 4)
    }
    assert collected(database, artifacts, keep_top=5, dry_run=True) == set()
    assert collected(database, artifacts, keep_top=1)
    stages = rows(database, Stage)
    assert len(names(artifacts)) == 8
    assert names(artifacts) <= networks_of(stages)


def test_the_float_network_of_an_open_evaluation_stays_however_it_ranks(
    database: Database, artifacts: Artifacts, tmp_path: Path
) -> None:
    post(database, proposed=True)
    work_all(database)
    search_id = post(database, bit_widths=["W4A4"], widths=[3])
    propose_candidates(database, search_id)
    store_networks(database, artifacts)
    make_old(tmp_path)
    (narrowest,) = rows(database, Evaluation, width=3)
    stages = stages_of(database, narrowest.id)
    garbage = collected(database, artifacts, keep_top=1)
    assert network_file(stages["float"].key, stages["float"].network_digest) not in garbage
    assert network_file(stages["W2A2"].key, stages["W2A2"].network_digest) in garbage
    with database.write() as session:
        cancel_search(session, search_id)
    assert collected(database, artifacts, keep_top=1) == networks_of([stages["float"]])


def _searched(database: Database) -> None:
    """Evaluations that are done, running, queued and cancelled, some of whose networks are stored by key."""
    post(database, proposed=True, bit_widths=["W2A2", "WFA2"])
    work_all(database)
    post(database, proposed=True, seeds=[1], widths=[3, 4])
    train_next_stage(database, claim(database))
    cancelled = post(database, proposed=True, seeds=[2], widths=[5, 6])
    for _ in range(2):  # the queued one, then one of the search to be cancelled
        lease = claim(database)
    train_next_stage(database, lease)
    with database.write() as session:
        cancel_search(session, cancelled)


def _best(database: Database, most: int) -> list[Stage]:
    """The stages that ``most`` is to keep, as the leaderboards that users see have them."""
    with database.read() as session:
        recipe_of = search_recipe(session.get_one(Search, 1))
        ids = {
            evaluation
            for bits in ("W2A2", "WFA2")
            for entry in leaderboard_of_task(session, get_task("digits"), recipe_of, [BitWidths.parse(bits)]).entries
            if entry.rank <= most
            for evaluation in entry.evaluations
        }
    running = {each.id for each in rows(database, Evaluation) if each.status in ("queued", "running")}
    return [
        stage
        for stage in rows(database, Stage)
        if stage.status != "pending"
        and (stage.evaluation_id in ids or (stage.evaluation_id in running and stage.bit_widths == "float"))
    ]


def test_whatever_lies_in_the_store_every_network_that_is_to_be_kept_reads_afterwards(database: Database) -> None:
    _searched(database)
    with tempfile.TemporaryDirectory() as folder:
        store_networks(database, Artifacts(folder))
    with database.write() as session:
        by_key = [stage.id for stage in rows(database, Stage)][::3]
        session.execute(update(Stage).where(Stage.id.in_(by_key)).values(network_digest=None))
    stages = rows(database, Stage)
    best = {most: _best(database, most) for most in (1, 2, 100)}
    of_stages = {network_file(each.key, each.network_digest): each for each in stages if each.status != "pending"}
    contents = {name: stage.key.encode() for name, stage in of_stages.items()}
    known = networks_of(stages) | {checkpoint_file(each.key) for each in stages}
    others = [checkpoint_file(each.key) for each in stages] + [network_file(each.key, None) for each in stages]
    contents |= {name: b"other" for name in (*others, ORPHAN, UNKNOWN, LEFTOVER, *FOREIGN) if name not in contents}

    @given(
        lying=st.dictionaries(st.sampled_from(sorted(contents)), st.sampled_from([0.001, 0.5, 2.0])),
        older_than=st.sampled_from([0.0, 1.0, 3.0]),
        keep_top=st.sampled_from([None, 1, 2, 100]),
    )
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def holds(lying: dict[str, float], older_than: float, keep_top: int | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            artifacts = Artifacts(folder)
            for name, days in lying.items():
                path, written = Path(folder, name), time.time() - days * DAY
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(contents[name])
                os.utime(path, (written, written))
            options = {"older_than_seconds": older_than * DAY, "keep_top": keep_top}
            try:
                foreseen = collected(database, artifacts, **options, dry_run=True)
            except InvalidInput:
                assert not known & set(lying)
                return
            assert names(artifacts) == set(lying)
            garbage = collected(database, artifacts, **options)
            assert garbage == foreseen
            assert names(artifacts) == set(lying) - garbage
            for name in garbage:
                assert lying[name] > max(older_than, GRACE_SECONDS / DAY)
            assert not garbage & set(FOREIGN)
            for stage in of_stages.values() if keep_top is None else best[keep_top]:
                if network_file(stage.key, stage.network_digest) in lying:
                    assert artifacts.read_network(stage.key, stage.network_digest) == stage.key.encode()
            for stage in stages:
                if stage.status == "pending":
                    assert checkpoint_file(stage.key) not in garbage
            for name in (ORPHAN, UNKNOWN, LEFTOVER):
                assert (name in garbage) == (lying.get(name, 0.0) > max(older_than, GRACE_SECONDS / DAY))

    holds()
