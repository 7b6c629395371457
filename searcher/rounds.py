"""What somebody has to do from time to time, whoever it is: searches end at their limits, and lost evaluations too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from searcher import leases
from searcher.searches import end_at_limits

if TYPE_CHECKING:
    from searcher.database import Database


def make_round(database: Database) -> None:
    """Ends what has come to its end; writes only where there is something to end. Any number of processes may."""
    end_at_limits(database)
    with database.read() as session:
        lost = leases.to_bury(session)
    if lost:
        with database.write() as session:
            leases.bury_lost(session)
