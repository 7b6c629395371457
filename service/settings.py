"""Settings, from the environment (``QUANTRANK_*``)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from qcore import InvalidInput
from qcore.memory import device_bytes, room_of_each
from qcore.wording import fault, wanted
from searcher.artifacts import Artifacts
from searcher.database import Database
from searcher.worker_settings import WorkerSettings
from service.access.secrets import checked_key, read_key_file, read_password_file
from service.logs import LogFormat

PREFIX = "QUANTRANK_"


def load_settings(device: str | None = None) -> Settings:
    """The settings of this process's environment; for another device, if one is given.

    Raises:
        InvalidInput: naming the variable that is unusable.
    """
    try:
        return Settings() if device is None else Settings(device=device)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"{PREFIX}{first['loc'][0]}".upper()
        shown = "(hidden)" if "key" in str(first["loc"][0]) else first["input"]
        raise InvalidInput(name, shown, fault(first), f"give {wanted(first)}, or unset it") from None


def unusable_home(home: Path, reason: str) -> InvalidInput:
    """What to tell of a home that cannot be written."""
    problem = f"is no folder that this user can write ({reason})"
    return InvalidInput(f"{PREFIX}HOME", str(home), problem, "make all of it writable, or name another folder")


class Settings(BaseSettings):
    """Where quantrank keeps and finds things. Every field has a ``QUANTRANK_`` variable of its name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True)

    @field_validator("home", "datasets", "database_password_file", "api_key_file", "bootstrap_key_file")
    @classmethod
    def _whole(cls, path: Path | None) -> Path | None:
        """The path as a shell would have it: from ``~`` on, and whatever folder a process is in later."""
        try:
            return None if path is None else path.expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(f"{error}") from None

    home: Path = Field(default_factory=lambda: user_data_path("quantrank", appauthor=False))
    """The embedded database and, unless set apart, artifacts and data sets."""
    database_url: str | None = None
    """PostgreSQL for a pool; the embedded SQLite database under ``home`` if not given."""
    database_password_file: Path | None = None
    """File that holds the password of ``database_url``, which then has none."""
    artifacts: str | None = None
    """Training states and trained networks: a folder or an fsspec URL, shared by all workers of a pool."""
    datasets: Path | None = None
    """The data root."""
    url: str | None = None
    """Server that client commands talk to."""
    api_key: SecretStr | None = None
    """Key that client commands send to the server, if it asks for one."""
    api_key_file: Path | None = None
    """File that holds the key, in its place."""
    bootstrap_key_file: Path | None = None
    """File with a key that the server takes as one of role admin from its start."""
    requests_per_minute: int = Field(default=1200, ge=1, le=10**6)
    """How often a key may ask, of each API process."""
    refused_keys_per_minute: int = Field(default=20, ge=1, le=10**6)
    """How many wrong keys are told from one address that they are wrong, by each API process."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Where `serve` listens, and client commands look for it, when they are not told."""
    device: str = "cpu"
    """What workers train on: cpu, cuda or cuda:<index>. Searches are posted for it: a recipe's precision and path
    ``auto`` stand for what is fastest there."""
    worker_memory_bytes: int | None = Field(default=None, ge=1, le=2**60)
    """Main memory that one evaluation may take on a worker. On CPUs, by default, the worker's share of the machine's,
    or of its container's."""
    log: LogFormat | None = None
    """What `serve`, `worker` and `ray` log: json, an object a line, or text. Text on a terminal, JSON elsewhere, if not
    given."""
    lease_seconds: float = Field(default=15.0, ge=1, le=3600)
    """How long after a worker's last sign of life another takes its evaluation over."""

    @property
    def client_key(self) -> str | None:
        """The key that client commands send.

        Raises:
            InvalidInput: when there is none where one is named.
        """
        if self.api_key is not None:
            return checked_key(f"{PREFIX}API_KEY", self.api_key.get_secret_value())
        return None if self.api_key_file is None else read_key_file(f"{PREFIX}API_KEY_FILE", self.api_key_file)

    @property
    def data_root(self) -> Path:
        return self.datasets or self.home / "datasets"

    @property
    def server_file(self) -> Path:
        """Where a running server says its URL, for client commands on the same host."""
        return self.home / "server.json"

    @property
    def has_database(self) -> bool:
        """Whether there is a database to open: the embedded one comes to be with the first search."""
        return self.database_url is not None or self._embedded_database.is_file()

    @property
    def _embedded_database(self) -> Path:
        return self.home / "quantrank.db"

    def open_artifacts(self) -> Artifacts:
        """The store these settings name.

        Raises:
            InvalidInput: when it is none.
        """
        if self.artifacts is None:
            return Artifacts(self.home / "artifacts")
        return Artifacts(self.artifacts if "://" in self.artifacts else Path(self.artifacts).expanduser())

    def for_workers(self, threads: int, processes: int = 1) -> WorkerSettings:
        """What these settings mean to a worker, one of so many processes here, whose runs have so many threads."""
        room = self.worker_memory_bytes
        if room is None and self.device == "cpu":
            room = room_of_each(device_bytes(self.device), processes)
        return WorkerSettings(
            data_root=self.data_root,
            artifacts=self.open_artifacts(),
            lease_seconds=self.lease_seconds,
            device=self.device,
            threads=threads,
            room_bytes=room,
        )

    def open_database(self) -> Database:
        """The database these settings name.

        Raises:
            InvalidInput: when the URL is none, or its password cannot be read, or the home cannot be written.
        """
        if self.database_url is None:
            self._require_usable_home()
        return self.named_database()

    def named_database(self) -> Database:
        """The same, where it need not be there, nor written.

        Raises:
            InvalidInput: when the URL is none, or its password cannot be read.
        """
        if self.database_url is None:
            return Database(URL.create("sqlite", database=str(self._embedded_database)), setting=f"{PREFIX}HOME")
        password_file = self.database_password_file
        password = (
            None if password_file is None else read_password_file(f"{PREFIX}DATABASE_PASSWORD_FILE", password_file)
        )
        return Database(self.database_url, password)

    def _require_usable_home(self) -> None:
        """SQLite writes beside the database as well, even of who only reads."""
        reason = None
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.home):
                pass
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # what is there can be read
                reason = str(error.strerror)
        for file in (Path(f"{self._embedded_database}{suffix}") for suffix in ("", "-wal", "-shm")):
            # Not opened: with a file all locks that this process has on it are closed.
            if reason is None and file.is_dir():
                reason = f"{file.name} in it is a folder"
            elif reason is None and file.exists() and not os.access(file, os.W_OK):
                reason = f"{file.name} in it cannot be written"
        if reason is not None:
            raise unusable_home(self.home, reason)
