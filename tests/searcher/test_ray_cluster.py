"""Which clusters are joined, and what is asked of them; no cluster runs here."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
import ray
from building import claim, post, rows, work
from hypothesis import given
from hypothesis import strategies as st

from qcore import InvalidInput
from searcher.database import Database
from searcher.memory import memory_of
from searcher.progress import progress
from searcher.ray_tune import cluster, presence
from searcher.ray_tune.cluster import Share, connect, slots
from searcher.tables import Evaluation, Search, Stage
from searcher.workers import NO_WORKER

RESOURCES = st.lists(st.fixed_dictionaries({"CPU": st.integers(1, 64), "GPU": st.integers(0, 8)}), max_size=5)


def _refused(address: str, database: Database) -> InvalidInput:
    with pytest.raises(InvalidInput) as raised:
        connect(address, database)
    assert raised.value.field == "address"
    assert raised.value.value == address
    return raised.value


def test_a_remote_cluster_is_refused_with_sqlite(sqlite_database: Database) -> None:
    refused = _refused("ray://head:10001", sqlite_database)
    assert "SQLite" in refused.problem
    assert "QUANTRANK_DATABASE_URL" in refused.remedy


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_a_cluster_that_has_other_hosts_is_left_again_with_sqlite(
    host: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []
    monkeypatch.setattr(ray, "init", lambda *_, **__: called.append("joined"))
    monkeypatch.setattr(ray, "shutdown", lambda: called.append("left"))
    monkeypatch.setattr(cluster, "nodes", lambda: [{"NodeManagerHostname": each} for each in ("elsewhere", host)])
    monkeypatch.setattr(socket, "gethostname", lambda: host)  # all nodes are on this host, or one of them is not
    if database.embedded and host != "elsewhere":
        assert "other hosts" in _refused("auto", database).problem
        assert called == ["joined", "left"]
    else:
        connect("auto", database)
        assert called == ["joined"]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_that_does_not_answer_is_refused(postgres_database: Database, form: str) -> None:
    with socket.socket() as taken:  # bound, and not listened on
        taken.bind(("127.0.0.1", 0))
        refused = _refused(form.format(taken.getsockname()[1]), postgres_database)
    assert "does not answer" in refused.problem
    assert "ray start --head" in refused.remedy


@pytest.mark.parametrize("address", ["", "head", "ray://head", "http://head:10001", "head:port", "ray://user@head:1"])
def test_what_is_no_address_is_refused(postgres_database: Database, address: str) -> None:
    assert "is not an address" in _refused(address, postgres_database).problem


def test_ray_that_is_not_installed_is_named_with_the_remedy(sqlite_database: Database) -> None:
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from searcher.database import Database\n"
        "from searcher.ray_tune.cluster import connect\n"
        "connect('local', Database(sys.argv[1]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(sqlite_database.url)], capture_output=True, text=True, check=False
    )
    assert "InvalidInput: address: 'local' needs Ray" in found.stderr
    assert 'pip install "ray[client,tune]"' in found.stderr


@given(resources=RESOURCES, cpus=st.integers(1, 8), share=st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_slots_never_ask_a_node_for_more_than_it_has(
    resources: list[dict[str, float]], cpus: int, share: float
) -> None:
    with_gpu = [slots(Share(cpus, share), [node]) for node in resources]
    for node, count in zip(resources, with_gpu, strict=True):
        assert count * cpus <= node["CPU"]
        assert count * share <= node["GPU"] + 1e-6
        assert (count + 1) * cpus > node["CPU"] or (count + 1) * share > node["GPU"] + 1e-6
    assert slots(Share(cpus, share), resources) == sum(with_gpu)
    assert slots(Share(cpus), resources) == sum(node["CPU"] // cpus for node in resources)
    assert slots(Share(cpus, memory_bytes=1), resources) == 0  # nodes that offer no memory


def test_slots_of_a_cluster_are_those_of_its_nodes() -> None:
    assert slots(Share(cpus=1, gpus=0.25), [{"CPU": 8, "GPU": 1}, {"CPU": 64}]) == 4
    assert slots(Share(cpus=2), [{"CPU": 7}, {"CPU": 4}]) == 5
    assert slots(Share(cpus=1, gpus=1 / 3), [{"CPU": 8, "GPU": 2}]) == 6


def test_what_an_evaluation_takes_is_estimated_or_less_as_its_like_took(database: Database) -> None:
    post(database, proposed=True, widths=[3, 4], seeds=[0, 1])
    evaluations = {(each.width, each.seed): each for each in rows(database, Evaluation)}

    def memory(width: int, seed: int = 1, device: str = "cpu") -> int:
        with database.read() as session:
            return memory_of(session, evaluations[width, seed], device)

    def measure(*peaks: int) -> None:
        retrained = rows(database, Stage, status="done", bit_widths="W2A2")
        for peak, stage in zip(peaks, retrained, strict=True):
            with database.write() as session:
                found = session.get_one(Stage, stage.id)
                found.provenance = {"peak_bytes": peak, "device": "cpu (x86_64)"}

    estimate = memory(3)
    assert 1e9 < estimate < memory(4)
    for _ in range(2):  # both of width 3
        work(database, claim(database))
    assert memory(3) == estimate  # whose peaks nobody measured
    measure(700_000_000, 600_000_000)
    assert memory(3) == memory(3, seed=0) == 840_000_000
    assert memory(4) > estimate
    assert memory(3, device="cuda") > 4e9
    measure(700_000_000, 9_000_000_000)  # by a worker that trained a large network before
    assert memory(3) == estimate


def test_a_ray_search_says_what_it_waits_for_until_a_driver_is_there(database: Database) -> None:
    on_ray, other = post(database, engine="ray"), post(database)

    def waits_for(search_id: int) -> str | None:
        with database.read() as session:
            return progress(session, session.get_one(Search, search_id)).waits_for

    driver = presence.new_driver_id()
    found = [waits_for(on_ray)]
    for change in (presence.register, presence.beat, presence.stop):
        with database.write() as session:
            change(session, driver)
        found.append(waits_for(on_ray))
    remedy = "no Ray driver runs: start one with `quantrank ray`"
    assert found == [remedy, None, None, remedy]
    assert waits_for(other) == NO_WORKER


def test_a_driver_knows_its_own_trials_and_whether_it_was_stopped(database: Database) -> None:
    post(database, proposed=True)
    mine, another = presence.new_driver_id(), presence.new_driver_id()
    for driver in (mine, another):
        with database.write() as session:
            presence.register(session, driver)
    lease = claim(database, worker_id=presence.new_trial_id(mine))
    assert lease is not None
    with database.write() as session:
        presence.stop(session, another)
    with database.read() as session:
        assert [presence.has_trials(session, each) for each in (mine, another)] == [True, False]
        assert [presence.has_stopped(session, each) for each in (mine, another)] == [False, True]
