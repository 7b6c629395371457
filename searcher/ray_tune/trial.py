"""What a Tune trial does: claims the evaluation it was placed for, and runs it as any worker would."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcore.devices import take_share
from searcher.database import Database
from searcher.ray_tune.presence import has_stopped, new_trial_id
from searcher.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from searcher.worker_settings import WorkerSettings


@dataclass(frozen=True)
class Trials:
    """What all trials of a driver are told."""

    driver_id: str
    database_url: str
    settings: WorkerSettings
    cores: int
    """Of a node, for each."""


def run_trial(trials: Trials, evaluation_id: int, tell_unfit: Callable[[str], None] = lambda _: None) -> bool:
    """Runs an evaluation on this node; False if somebody else has it, or the driver has been told to stop.

    On a node that is unfit it keeps its place until that is mended, so that other trials come to other nodes.

    Raises:
        SQLAlchemyError: when the database is away; the evaluation is placed again once its lease has ended.
    """
    take_share(trials.cores)
    database = Database(trials.database_url)

    def told_to_stop() -> bool:
        with database.read() as session:
            return has_stopped(session, trials.driver_id)

    try:
        if told_to_stop():
            return False
        worker = Worker(
            database,
            trials.settings,
            worker_id=new_trial_id(trials.driver_id),
            told_to_stop=told_to_stop,
            hangs=lambda: os._exit(1),  # Tune notices that the process is gone
        )
        return worker.run_only(evaluation_id, tell_unfit)
    finally:
        database.dispose()
