"""The store that all workers share: training states by stage key, trained networks by their content.

It is a folder, or a URL that fsspec knows. What is read is checked: a network against the SHA-256 that its stage has in
the database, a training state against its own (``qcore.checkpoints``).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore.errors import InvalidInput
from qcore.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

CHECKPOINTS, NETWORKS = "checkpoints", "networks"
_LOCK = ".lock"
"""A file of folders, locked by those who write, together, and by who removes, alone."""
_LOCK_ATTEMPTS, _LOCK_PAUSE_SECONDS = 1200, 0.05
_SETTING = "QUANTRANK_ARTIFACTS"


class StoreFailed(InvalidInput):
    """The store cannot be read or written: it is full, away, or refuses."""


class NetworkUnusable(Exception):  # noqa: N818  a state of affairs, not a fault
    """A network is not in the store, or its bytes are not those that were put there. The message follows a subject."""


@dataclass(frozen=True)
class StoredFile:
    name: str
    """Below the store's root."""
    size: int
    """Bytes."""


def checkpoint_file(stage_key: str) -> str:
    """What the state of a stage in training is called in the store."""
    return f"{CHECKPOINTS}/{stage_key}.checkpoint"


def network_file(stage_key: str, digest: str | None) -> str:
    """What a stage's network is called in the store; without a digest, what earlier releases called it."""
    if digest is None:
        return f"{NETWORKS}/{stage_key}.safetensors"
    return f"{NETWORKS}/{digest[:2]}/{digest}.safetensors"


class Artifacts:
    """The opened store. Files are replaced whole or not at all, in folders and in object stores."""

    def __init__(self, location: str | Path) -> None:
        """Opens the store; nothing is read or written yet.

        Raises:
            InvalidInput: when fsspec does not know the URL, or lacks a package for it.
        """
        place = str(location) if "://" in str(location) else str(Path(location).absolute())
        self.location = re.sub(r"://[^/@]*@", "://", place)
        """As it may be shown: without user and password."""
        self._files, self._root, self._is_folder = _open(place, self.location)

    def write_network(self, content: bytes) -> str:
        """Stores a network and returns its digest. It is written even if it is there already: young files are kept.

        Raises:
            StoreFailed: when it cannot be written.
        """
        digest = hashlib.sha256(content).hexdigest()
        self.write(network_file("", digest), content)
        return digest

    def read_network(self, stage_key: str, digest: str | None) -> bytes:
        """A stage's network.

        Raises:
            NetworkUnusable: when it is not there, or damaged.
            StoreFailed: when it cannot be read.
        """
        name = network_file(stage_key, digest)
        content = self.read(name)
        if content is None:
            raise NetworkUnusable(f"has no network in {self.location}: {name} is not there")
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise NetworkUnusable(f"has a damaged network in {self.location}: {name} does not hold what was stored")
        return content

    def checkpoint(self, stage_key: str) -> StoredCheckpoint:
        return StoredCheckpoint(self, checkpoint_file(stage_key))

    def files(self) -> list[StoredFile]:
        """All files where checkpoints and networks lie, foreign ones and leftovers too.

        Raises:
            StoreFailed: when they cannot be listed.
        """
        with self._answering("listed"):
            return [
                StoredFile(path[len(self._root) + 1 :], about["size"])
                for folder in (CHECKPOINTS, NETWORKS)
                for path, about in self._files.find(self._path(folder), detail=True).items()
            ]

    def age_seconds(self, name: str) -> float | None:
        """How long ago a file was written; None if it is gone.

        Raises:
            StoreFailed: when the store does not say.
        """
        with self._answering("read"):
            try:
                return time.time() - float(self._files.modified(self._path(name)).timestamp())
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none.

        Raises:
            StoreFailed: when it cannot be read.
        """
        with self._answering("read"):
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def prove(self, content: bytes) -> None:
        """Writes something where networks are, reads it back and removes it.

        Raises:
            StoreFailed: when one of them fails, or what is read is not what was written.
        """
        name = f"{NETWORKS}/{hashlib.sha256(content).hexdigest()}.proof"
        self.write(name, content)
        read = self.read(name)
        self.remove(name)
        if read != content:
            with self._answering("read"):
                raise OSError("what was written is not what is read")

    def write(self, name: str, content: bytes) -> None:
        """Replaces a file.

        Raises:
            StoreFailed: when it cannot be written; what was there before stays.
        """
        with self._answering("written"):
            if self._is_folder:
                path = Path(self._path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._beside_writers():
                    write_whole(path, content)
            else:
                self._files.pipe_file(self._path(name), content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there.

        Raises:
            StoreFailed: when it cannot be removed.
        """
        with self._answering("written"), suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def is_old(self, name: str, seconds: float) -> bool:
        """Whether a file was written longer ago than that."""
        age = self.age_seconds(name)
        return age is not None and age > seconds

    def remove_if_old(self, name: str, seconds: float) -> bool:
        """Removes a file that was written longer ago than that; whether it was.

        Nobody writes it meanwhile, so that what is written again while it is looked at stays. That holds for folders,
        on whatever hosts the writers are; object stores have no locks, and there only the moment between looking and
        removing is left to chance.

        Raises:
            StoreFailed: when it cannot be removed, or somebody does not come to an end with writing.
        """
        with self._without_writers():
            if not self.is_old(name, seconds):  # as it is now: it may have been written again
                return False
            self.remove(name)
            return True

    @contextmanager
    def _beside_writers(self) -> Iterator[None]:
        file = self._open_lock()
        try:
            _lock(file, fcntl.LOCK_SH)
            yield
        finally:
            os.close(file)  # which unlocks

    @contextmanager
    def _without_writers(self) -> Iterator[None]:
        if not self._is_folder:
            yield
            return
        with self._answering("locked"):
            file = self._open_lock()
        try:
            with self._answering("locked"):
                _lock_alone(file)
            yield
        finally:
            os.close(file)

    def _open_lock(self) -> int:
        return os.open(self._path(_LOCK), os.O_RDWR | os.O_CREAT, 0o666)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _answering(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # object stores' clients raise whatever their libraries raise
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            raise StoreFailed(
                _SETTING,
                self.location,
                f"cannot be {done} ({reason.splitlines()[0]})",
                "make it work, or make room in it (`quantrank gc`), and search again: training goes on where it was",
            ) from error


@dataclass(frozen=True)
class StoredCheckpoint:
    """The state of one stage in training. It only saves time: where the store fails, training goes on without it."""

    artifacts: Artifacts
    name: str

    def read(self) -> bytes | None:
        try:
            return self.artifacts.read(self.name)
        except StoreFailed as error:
            log.warning("training starts without its checkpoint: %s", error)
            return None

    def write(self, content: bytes) -> None:
        try:
            self.artifacts.write(self.name, content)
        except StoreFailed as error:
            log.warning("training goes on without a checkpoint: %s", error)

    def remove(self) -> None:
        try:
            self.artifacts.remove(self.name)
        except StoreFailed as error:
            log.warning("a checkpoint that is not needed any more stays: %s", error)


def _lock(file: int, how: int) -> None:
    """Locks a file, where its file system can: some network ones cannot, and then there is no lock."""
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def _lock_alone(file: int) -> None:
    for _ in range(_LOCK_ATTEMPTS):
        try:
            return _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _wait_for_writers()
    raise TimeoutError("somebody has been writing for a minute: is a process paused?")


def _wait_for_writers() -> None:
    time.sleep(_LOCK_PAUSE_SECONDS)


def _open(place: str, shown: str) -> tuple[Any, str, bool]:
    """The file system, the store's root in it, and whether it is this host's own."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if "://" not in place:
        return LocalFileSystem(), place, True
    try:
        files, root = url_to_fs(place, use_listings_cache=False)
    except ImportError as error:
        protocol = place.split(":")[0]
        remedy = f"pip install 'quantrank[{protocol}]'" if protocol == "s3" else "install it, or use a folder or s3://"
        raise InvalidInput(_SETTING, shown, f"needs a package that is not installed ({error})", remedy) from None
    except ValueError as error:
        problem, remedy = f"cannot be used ({error})", "use a folder, or a URL as s3://bucket/prefix"
        raise InvalidInput(_SETTING, shown, problem, remedy) from None
    return files, root.rstrip("/"), isinstance(files, LocalFileSystem)
