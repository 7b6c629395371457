"""Workers, as REST shows them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from service.schemas.values import to_datetime

if TYPE_CHECKING:
    from searcher.workers import WorkerStatus


class MissingDataView(BaseModel):
    """A task that a worker leaves to others."""

    task: str
    task_version: str
    problem: str = Field(description="What is missing on its host, and what to do.")


class WorkView(BaseModel):
    """The evaluation that a worker has."""

    id: int
    task: str
    architecture: str
    seed: int


class WorkerView(BaseModel):
    """A process that runs evaluations, one at a time."""

    id: str
    host: str
    pid: int
    device: str = Field(description="cpu or cuda:<index>")
    memory_bytes: int | None = Field(description="All memory of the GPU; or of the host, or of its container.")
    room_bytes: int | None = Field(
        description="Main memory that one evaluation may take: it leaves what takes more to others. Null for no limit."
    )
    cores: int
    threads: int = Field(description="Of one training run.")
    versions: dict[str, Any] = Field(description="Of quantrank, its numerics, torch and Python.")
    status: str = Field(
        description="working, idle, unfit: it lacks something to train at all, or gone: its last sign of life is older "
        "than its lease."
    )
    unfit_reason: str | None = Field(description="What it lacks, and what to do.")
    unfit_since: datetime | None
    evaluation: WorkView | None
    missing: list[MissingDataView]
    started_at: datetime
    heartbeat_at: datetime

    @classmethod
    def of(cls, found: WorkerStatus) -> WorkerView:
        worker, work = found.worker, found.evaluation
        return cls(
            id=worker.id,
            host=worker.host,
            pid=worker.pid,
            device=worker.device,
            memory_bytes=worker.memory_bytes,
            room_bytes=worker.room_bytes,
            cores=worker.cores,
            threads=worker.threads,
            versions=worker.versions,
            status=found.status,
            unfit_reason=worker.unfit_reason,
            unfit_since=None if worker.unfit_since is None else to_datetime(worker.unfit_since),
            evaluation=None if work is None else WorkView.model_validate(work, from_attributes=True),
            missing=[MissingDataView.model_validate(each, from_attributes=True) for each in found.missing],
            started_at=to_datetime(worker.started_at),
            heartbeat_at=to_datetime(worker.heartbeat_at),
        )


class WorkerList(BaseModel):
    """By host and device."""

    workers: list[WorkerView]
    problem: str | None = Field(
        description="Why nothing is trained: no worker runs, or each is unfit; null if one is fit."
    )
    next: str | None = Field(description="Where those that follow are; null where there are none.")
