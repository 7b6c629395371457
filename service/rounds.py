"""What has to be done from time to time whether a worker runs or not: searches end at their limits."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from searcher.rounds import make_round

if TYPE_CHECKING:
    from searcher.database import Database

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 2.0


class Rounds(threading.Thread):
    """Ends searches that have reached a limit, and gives up evaluations whose workers died too often.

    As every worker does; any number of processes may.
    """

    def __init__(self, database: Database, pause_seconds: float = _PAUSE_SECONDS) -> None:
        super().__init__(name="rounds", daemon=True)
        self._database, self._pause_seconds = database, pause_seconds
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self._pause_seconds):
            try:
                make_round(self._database)
            except SQLAlchemyError as error:
                self._database.outage.begin(error)
            except Exception as error:  # whatever it is, the next round comes
                log.warning("searches are not looked through for those at their limits: %s", error)

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(self._pause_seconds)
