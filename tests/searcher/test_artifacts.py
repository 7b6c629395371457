"""The contract of the artifact store, on a folder, in memory and on an S3-compatible server."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from building import at_once
from fsspec.registry import _registry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcore import InvalidInput
from searcher.artifacts import Artifacts, NetworkUnusable, StoredFile, StoreFailed, checkpoint_file, network_file

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture(params=["folder", "memory", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "store")
    elif request.param == "s3":
        yield request.getfixturevalue("bucket")
    else:
        yield f"memory://{tmp_path.name}/store"
        fsspec.filesystem("memory").store.clear()


@pytest.fixture
def artifacts(location: str) -> Artifacts:
    return Artifacts(location)


def test_a_network_is_stored_under_the_hash_of_its_bytes_and_read_by_everybody(
    artifacts: Artifacts, location: str
) -> None:
    digest = artifacts.write_network(b"a network")
    assert digest == hashlib.sha256(b"a network").hexdigest()
    assert artifacts.write_network(b"a network") == digest
    assert artifacts.write_network(b"another") != digest
    assert Artifacts(location).read_network(KEY, digest) == b"a network"
    assert artifacts.read(f"networks/{digest[:2]}/{digest}.safetensors") == b"a network"


@pytest.mark.parametrize("damaged", [b"", b"a networ", b"a network.", b"b network"])
def test_a_network_of_other_bytes_is_as_good_as_none(artifacts: Artifacts, damaged: bytes) -> None:
    digest = artifacts.write_network(b"a network")
    artifacts.write(network_file(KEY, digest), damaged)
    with pytest.raises(NetworkUnusable, match="damaged"):
        artifacts.read_network(KEY, digest)
    artifacts.write_network(b"a network")
    assert artifacts.read_network(KEY, digest) == b"a network"
    artifacts.remove(network_file(KEY, digest))
    with pytest.raises(NetworkUnusable, match="is not there"):
        artifacts.read_network(KEY, digest)


def test_a_network_without_a_digest_is_found_by_its_stages_key(artifacts: Artifacts) -> None:
    artifacts.write(f"networks/{KEY}.safetensors", b"of an earlier release")
    assert artifacts.read_network(KEY, None) == b"of an earlier release"
    with pytest.raises(NetworkUnusable, match="is not there"):
        artifacts.read_network(OTHER, None)


def test_a_checkpoint_is_what_was_written_last_until_it_is_removed(artifacts: Artifacts) -> None:
    checkpoint = artifacts.checkpoint(KEY)
    assert checkpoint.read() is None
    for content in (b"first", b"second", b""):
        checkpoint.write(content)
        assert checkpoint.read() == content
    assert artifacts.checkpoint(OTHER).read() is None
    checkpoint.remove()
    assert checkpoint.read() is None
    checkpoint.remove()


def test_workers_may_write_and_read_the_same_content_at_once(artifacts: Artifacts, location: str) -> None:
    contents = [bytes([value]) * 200_000 for value in range(2)]

    def work(content: bytes) -> bytes:
        own = Artifacts(location)
        for _ in range(5):
            digest = own.write_network(content)
            assert own.read_network(KEY, digest) == content
        return own.read_network(KEY, digest)

    assert at_once(*[lambda content=content: work(content) for content in contents * 3]) == contents * 3
    names = {network_file(KEY, hashlib.sha256(content).hexdigest()) for content in contents}
    assert {file.name for file in artifacts.files()} == names


def test_the_store_lists_its_files_with_size_and_age(artifacts: Artifacts) -> None:
    assert artifacts.files() == []
    artifacts.checkpoint(KEY).write(b"123")
    digest = artifacts.write_network(b"12345")
    artifacts.write("notes/mine.txt", b"no concern of ours")
    assert sorted(artifacts.files(), key=lambda file: file.name) == [
        StoredFile(checkpoint_file(KEY), 3),
        StoredFile(network_file(KEY, digest), 5),
    ]
    age = artifacts.age_seconds(checkpoint_file(KEY))
    assert age is not None
    assert -60 < age < 60
    assert artifacts.age_seconds(checkpoint_file(OTHER)) is None


def test_a_store_in_a_file_url_is_the_folder(tmp_path: Path) -> None:
    digest = Artifacts(f"file://{tmp_path}/store").write_network(b"a network")
    assert Artifacts(tmp_path / "store").read_network(KEY, digest) == b"a network"
    assert [path.name for path in (tmp_path / "store/networks" / digest[:2]).iterdir()] == [f"{digest}.safetensors"]


def test_a_store_that_takes_nothing_fails_with_its_name_and_leaves_checkpoints_to_chance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    artifacts = Artifacts(tmp_path / "store")
    with pytest.raises(StoreFailed, match=r"cannot be written \(Not a directory\)") as failed:
        artifacts.write_network(b"a network")
    assert (failed.value.field, failed.value.value) == ("QUANTRANK_ARTIFACTS", str(tmp_path / "store"))
    assert "quantrank gc" in failed.value.remedy
    artifacts.checkpoint(KEY).write(b"state")
    assert artifacts.checkpoint(KEY).read() is None
    assert "training goes on without a checkpoint" in caplog.text
    assert "training starts without its checkpoint" in caplog.text


def test_a_bucket_that_does_not_exist_fails_with_its_name(bucket: str) -> None:
    with pytest.raises(StoreFailed, match=r"cannot be written .*bucket does not exist") as failed:
        Artifacts("s3://no-such-bucket/store").write_network(b"a network")
    assert failed.value.value == "s3://no-such-bucket/store"


def test_a_write_that_is_cut_short_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.write(checkpoint_file(KEY), b"before")

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        artifacts.checkpoint(KEY).write(b"after")
    assert artifacts.checkpoint(KEY).read() == b"before"


@given(content=st.binary(max_size=50), other=st.binary(max_size=50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_digest_is_answered_with_its_content_or_not_at_all(tmp_path: Path, content: bytes, other: bytes) -> None:
    artifacts = Artifacts(tmp_path)
    digest = artifacts.write_network(content)
    artifacts.write(network_file(KEY, digest), other)
    try:
        assert artifacts.read_network(KEY, digest) == content
    except NetworkUnusable:
        assert other != content


@pytest.mark.parametrize(
    ("url", "told"),
    [("nope://x/y", "Protocol not known: nope"), ("dropbox://x/y", "needs a package that is not installed")],
)
def test_a_url_that_is_no_store_is_refused(url: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as refused:
        Artifacts(url)
    assert refused.value.field == "QUANTRANK_ARTIFACTS"


def test_a_bucket_without_its_package_is_refused_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InvalidInput, match=r"pip install 'quantrank\[s3\]'"):
        Artifacts("s3://bucket/prefix")


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as refused:
        Artifacts("nope://user:h1dden@host/path")
    assert "h1dden" not in str(refused.value)
    assert refused.value.value == "nope://host/path"
