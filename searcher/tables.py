"""The tables. Times are seconds since 1970 by the database's clock; accuracies are percent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    and_,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import Integer

from searcher.database import database_now

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

# SQLite gives out keys by itself only for INTEGER.
_Key = BigInteger().with_variant(Integer, "sqlite")


_CLAIMED_AGAIN = text("attempt > 1")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        float: Double,
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[int]: JSON,
        list[dict[str, Any]]: JSON,
    }


class ApiKey(Base):
    """What lets a caller in. The key itself is with its holder alone."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    """read, submit or admin"""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the key, in hexadecimal"""
    hint: Mapped[str] = mapped_column(String(16))
    """The key's beginning, to tell it from others"""
    created_at: Mapped[float] = mapped_column(default=database_now())
    last_used_at: Mapped[float | None]
    """To the minute."""
    revoked_at: Mapped[float | None]
    max_running: Mapped[int | None]
    """Most searches it may have running at once; None for any number, here and below."""
    max_parameter_budget: Mapped[int | None] = mapped_column(BigInteger)
    """Most that a search may ask for; one without this budget asks for too much."""
    max_model_bytes_budget: Mapped[int | None] = mapped_column(BigInteger)
    max_bit_operations_budget: Mapped[int | None] = mapped_column(BigInteger)
    max_evaluations: Mapped[int | None]


class SignIn(Base):
    """A browser that was let in with a key, and until when."""

    __tablename__ = "sign_ins"

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id"))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the token in the browser's cookie, in hexadecimal"""
    created_at: Mapped[float] = mapped_column(default=database_now())
    expires_at: Mapped[float] = mapped_column(index=True)


class Search(Base):
    """A request and how far it is."""

    __tablename__ = "searches"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  a deleted search's number is nobody else's

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    status: Mapped[str] = mapped_column(String(16), index=True)
    """running, finished, failed or cancelled"""
    task: Mapped[str] = mapped_column(String(64))
    task_version: Mapped[str] = mapped_column(String(64))
    numerics_version: Mapped[int]
    parameter_budget: Mapped[int | None] = mapped_column(BigInteger)
    model_bytes_budget: Mapped[int | None] = mapped_column(BigInteger)
    """This and bit operations count at the first bit widths."""
    bit_operations_budget: Mapped[int | None] = mapped_column(BigInteger)
    bit_widths: Mapped[list[str]]
    seeds: Mapped[list[int]]
    engine: Mapped[str] = mapped_column(String(16))
    sampler: Mapped[str] = mapped_column(String(16), server_default="tpe")
    minimize: Mapped[str | None] = mapped_column(String(32))
    """A cost that the sampler is to keep small beside a great accuracy."""
    rungs: Mapped[list[dict[str, Any]]]
    """Recipes cut short by which candidates are compared before the full one."""
    promoted_share: Mapped[float] = mapped_column(server_default="0.25")
    max_seeds: Mapped[int] = mapped_column(server_default="1")
    top: Mapped[int] = mapped_column(server_default="1")
    indifference_margin: Mapped[float] = mapped_column(server_default="0")
    """Percentage points."""
    max_evaluations: Mapped[int | None]
    time_limit_s: Mapped[float | None]
    target_accuracy: Mapped[float | None]
    """Percent, of the mean validation accuracy at the ranking bit widths."""
    priority: Mapped[int] = mapped_column(server_default="0")
    """Searches of higher priority are served first (``serving_order``)."""
    recipe: Mapped[dict[str, Any]]
    float_recipe_hash: Mapped[str] = mapped_column(String(64))
    retraining_recipe_hash: Mapped[str] = mapped_column(String(64))
    posted_by: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    """The key it was posted with, if with any."""
    poster: Mapped[ApiKey | None] = relationship()
    created_at: Mapped[float] = mapped_column(default=database_now())
    started_at: Mapped[float] = mapped_column(default=database_now(), server_default="0")
    """What its time limit counts from: created, or extended by one."""
    ended_at: Mapped[float | None]
    ended_by: Mapped[str | None] = mapped_column(String(32))
    """Why it ended by itself: complete, max_evaluations, time_limit_s, target_accuracy, failures (all was tried, and
    some of it failed or was lost) or failed."""
    problem: Mapped[str | None] = mapped_column(Text)
    """Of a failed one: why."""


class IdempotencyKey(Base):
    """What a client calls a search it posts: posted again under the same name, it is the same search."""

    __tablename__ = "idempotency_keys"

    poster: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=False)
    """The API key that posted; 0 without one. Names of different ones have nothing to do with each other."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what was asked for, in hexadecimal"""
    search_id: Mapped[int | None] = mapped_column(ForeignKey("searches.id"), index=True)
    """None only inside the transaction that creates the search."""
    expires_at: Mapped[float] = mapped_column(index=True)


class Candidate(Base):
    """An architecture within a search's budgets."""

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("search_id", "architecture"), Index(None, "search_id", "served_at"))

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"))
    architecture: Mapped[str] = mapped_column(String(64))
    block: Mapped[str] = mapped_column(String(32))
    depth: Mapped[int]
    width: Mapped[int]
    parameters: Mapped[int] = mapped_column(BigInteger)
    served_at: Mapped[float | None]
    """When an evaluation of it that the search still wanted was last claimed."""


class Evaluation(Base):
    """One architecture, task, float recipe and seed, shared by every search that wants it; what a worker claims."""

    __tablename__ = "evaluations"
    __table_args__ = (
        Index(None, "status", "lease_ends"),
        Index("ix_evaluations_again", "attempt", postgresql_where=_CLAIMED_AGAIN, sqlite_where=_CLAIMED_AGAIN),
        Index(
            "ix_evaluations_leaderboard",
            "task",
            "task_version",
            "numerics_version",
            "float_recipe_hash",
            "architecture",
        ),
    )

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    float_key: Mapped[str] = mapped_column(String(64), unique=True)
    task: Mapped[str] = mapped_column(String(64))
    task_version: Mapped[str] = mapped_column(String(64))
    architecture: Mapped[str] = mapped_column(String(64))
    block: Mapped[str] = mapped_column(String(32))
    depth: Mapped[int]
    width: Mapped[int]
    parameters: Mapped[int] = mapped_column(BigInteger)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Main memory that training it on a CPU takes, as estimated; None where a release before queued it."""
    seed: Mapped[int] = mapped_column(BigInteger)
    numerics_version: Mapped[int]
    float_recipe_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    """queued, running, done, failed (its own error), lost (its workers died too often) or cancelled"""
    attempt: Mapped[int] = mapped_column(default=0)
    """Claims so far that were not handed back."""
    fruitless_attempts: Mapped[int] = mapped_column(default=0)
    """Claims in a row that brought no epoch further."""
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_ends: Mapped[float | None]
    worker_id: Mapped[str | None] = mapped_column(String(32))
    suspected_by: Mapped[str | None] = mapped_column(String(32))
    """The worker on which it met an error that nobody knows: another tries it once more before it fails."""
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(default=database_now())
    ended_at: Mapped[float | None]

    @classmethod
    def is_held(cls) -> ColumnElement[bool]:
        """The SQL condition that a worker has it: its lease has not ended."""
        return and_(cls.status == "running", cls.lease_ends > database_now())

    @classmethod
    def is_abandoned(cls) -> ColumnElement[bool]:
        """The SQL condition that its worker's lease has ended and nobody has taken it over."""
        return and_(cls.status == "running", cls.lease_ends <= database_now())


class Proposal(Base):
    """A search wants an evaluation of one of its candidates."""

    __tablename__ = "proposals"

    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"), primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"), primary_key=True, index=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"), index=True)
    rung: Mapped[int] = mapped_column(server_default="0")
    """Position among the search's rungs; the one after the last of them is the full recipe."""
    free: Mapped[bool]
    """Every stage it needs was there already."""


class Stage(Base):
    """One training run of an evaluation, wanted or finished. The key is unique: no stage is trained twice."""

    __tablename__ = "stages"
    __table_args__ = (
        Index(None, "evaluation_id", "bit_widths"),
        Index("ix_stages_uncounted", "status", postgresql_where=text("NOT counted"), sqlite_where=text("counted = 0")),
    )

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"))
    bit_widths: Mapped[str] = mapped_column(String(8))
    """float, W2A2, ..."""
    recipe: Mapped[dict[str, Any]]
    """The whole recipe, as the first search that wanted this stage had it."""
    retraining_recipe_hash: Mapped[str | None] = mapped_column(String(64))
    """None for the float stage, which serves every retraining."""
    status: Mapped[str] = mapped_column(String(16))
    """pending, done, or diverged (a result without accuracies)"""
    epochs: Mapped[int]
    epochs_done: Mapped[int] = mapped_column(default=0)
    validation_accuracy: Mapped[float | None]
    test_accuracy: Mapped[float | None]
    train_seconds: Mapped[float | None]
    network_digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of the trained network's bytes, which is its name in the store. None for a stage that was not trained
    because its float stage diverged, and where an earlier release stored the network by the stage's key."""
    divergence: Mapped[dict[str, Any] | None]
    """Where a diverged stage broke first: optimizer step, layer and quantity."""
    provenance: Mapped[dict[str, Any] | None]
    """Versions, device, threads, host and git revision that made the result."""
    ended_at: Mapped[float | None]
    counted: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether standings know its result. Those that a worker of an earlier release wrote wait until somebody looks."""


class Leaderboard(Base):
    """A task, recipe and bit widths that there are results of. Whoever changes its standings locks it first."""

    __tablename__ = "leaderboards"
    __table_args__ = (
        UniqueConstraint(
            "task",
            "task_version",
            "numerics_version",
            "float_recipe_hash",
            "retraining_recipe_hash",
            "bit_widths",
            name="uq_leaderboards_ranked",
        ),
    )

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    task: Mapped[str] = mapped_column(String(64))
    task_version: Mapped[str] = mapped_column(String(64))
    numerics_version: Mapped[int]
    float_recipe_hash: Mapped[str] = mapped_column(String(64))
    retraining_recipe_hash: Mapped[str] = mapped_column(String(64))
    bit_widths: Mapped[str] = mapped_column(String(8))
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    """Rises with every change of its standings."""


class StoredStanding(Base):
    """What an architecture's seeds gave, ``standings.Standing`` says what: kept with every result, by its stages."""

    __tablename__ = "standings"
    __table_args__ = (Index(None, "leaderboard_id", "revision"),)

    leaderboard_id: Mapped[int] = mapped_column(ForeignKey("leaderboards.id"), primary_key=True)
    architecture: Mapped[str] = mapped_column(String(64), primary_key=True)
    block: Mapped[str] = mapped_column(String(32))
    depth: Mapped[int]
    width: Mapped[int]
    parameters: Mapped[int] = mapped_column(BigInteger)
    macs: Mapped[int] = mapped_column(BigInteger)
    bit_operations: Mapped[int] = mapped_column(BigInteger)
    model_bytes: Mapped[int] = mapped_column(BigInteger)
    seeds: Mapped[int]
    accuracy: Mapped[float | None]
    squares: Mapped[float]
    float_accuracy: Mapped[float | None]
    drop: Mapped[float | None]
    train_seconds: Mapped[float]
    revision: Mapped[int] = mapped_column(BigInteger)
    """The leaderboard's when this was last changed."""


class CurvePoint(Base):
    """One epoch of a stage's learning curve."""

    __tablename__ = "curve_points"

    stage_id: Mapped[int] = mapped_column(ForeignKey("stages.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    train_loss: Mapped[float | None]
    """None where it is no number."""
    validation_accuracy: Mapped[float | None]
    learning_rate: Mapped[float]


class Event(Base):
    """Something that happened to a search, for those who watch it; ids rise in the order of commits per search."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "search_id", "id"),)

    id: Mapped[int] = mapped_column(_Key, primary_key=True)
    search_id: Mapped[int] = mapped_column(ForeignKey("searches.id"))
    kind: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(default=database_now())


class Worker(Base):
    """A process that runs evaluations."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str] = mapped_column(String(64))
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Of the device: a GPU's, or the machine's or its container's; None where it is not known."""
    room_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Main memory that an evaluation may take here; None where nothing limits it, or something else does."""
    cores: Mapped[int]
    """That the process may use."""
    threads: Mapped[int]
    """Of one training run."""
    versions: Mapped[dict[str, Any]]
    lease_seconds: Mapped[float]
    """How long after its last sign of life it counts as gone."""
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey("evaluations.id"))
    started_at: Mapped[float] = mapped_column(default=database_now())
    heartbeat_at: Mapped[float] = mapped_column(default=database_now())
    stopped_at: Mapped[float | None]
    unfit_reason: Mapped[str | None] = mapped_column(Text)
    """What it lacks to train anything; None while it is fit."""
    unfit_since: Mapped[float | None]


class MissingData(Base):
    """A task that a worker cannot train for want of its data, or of the release that knows them; others can."""

    __tablename__ = "missing_data"

    worker_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    task: Mapped[str] = mapped_column(String(64), primary_key=True)
    task_version: Mapped[str] = mapped_column(String(64), primary_key=True)
    problem: Mapped[str] = mapped_column(Text)
    """What is missing and where to put it."""
