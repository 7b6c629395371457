"""Tasks that a worker leaves to others, for want of their data or of kernels, until these have come to be here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from qcore import InvalidInput, stored_task
from qcore.errors import NotHere
from searcher import leases, workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qcore import DataMissing
    from searcher.database import Database
    from searcher.leases import Lease
    from searcher.results import OtherRelease

log = logging.getLogger(__name__)


def has_kernels() -> bool:
    """Whether the fused kernels can be used here. Imports torch."""
    from searcher.proof import kernels

    return kernels().problem is None


class AwaitedData:
    """Of one worker."""

    def __init__(self, database: Database, worker_id: str, data_root: Path) -> None:
        self._database, self._worker_id, self._data_root = database, worker_id, data_root
        self._awaited: dict[tuple[str, str], Callable[[], bool]] = {}
        """By names and versions of tasks, whether what they lack is here."""

    def leave_to_others(self, lease: Lease, error: DataMissing | OtherRelease | NotHere) -> None:
        """Hands an evaluation back, and takes no other of its task."""
        with self._database.write() as session:
            evaluation = leases.held(session, lease)
            leases.release(session, lease)
            workers.note_missing(session, self._worker_id, evaluation.task, evaluation.task_version, str(error))
        task, version = evaluation.task, evaluation.task_version
        is_here = has_kernels if isinstance(error, NotHere) else lambda: self._is_here(task, version)
        if not is_here():  # else looking again would find nothing new
            self._awaited[task, version] = is_here
        log.warning("evaluation %d and all of its task are left to other workers: %s", evaluation.id, error)

    def look(self) -> None:
        """Takes evaluations again of tasks of which nothing is lacking any more."""
        for task, version in [each for each, is_here in self._awaited.items() if is_here()]:
            with self._database.write() as session:
                workers.forget_missing(session, self._worker_id, task, version)
            del self._awaited[task, version]

    def _is_here(self, task: str, version: str) -> bool:
        """Whether that version of a task is here, as far as the names of its files say."""
        try:
            known = stored_task(task, version)
            known.check(self._data_root)
        except InvalidInput:
            return False
        return known.version == version
