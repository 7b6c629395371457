"""Leaderboards' standings, held in memory from one request to the next and brought up to date by what changed since.

A leaderboard's revision, which rises with every change under its lock, says what that is: nobody sees a revision before
all that led to it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from sqlalchemy import select

from searcher.board import COLUMNS, Board
from searcher.tables import StoredStanding

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOST_STANDINGS = 500_000
"""That are held, of all leaderboards together: about 200 MB. Those that were looked at last stay."""

_COLUMNS = [StoredStanding.__table__.columns[name] for name in COLUMNS]


class Boards:
    """Safe to share between threads; of one database."""

    def __init__(self, most_standings: int = MOST_STANDINGS) -> None:
        self._most = most_standings
        self._held: OrderedDict[int, tuple[int, Board]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, session: Session, leaderboard: int, revision: int, examples: int | None) -> Board:
        """A leaderboard's standings, of that revision or, where it has changed meanwhile, a later one.

        ``examples`` is as ``Board`` takes it. Two threads that miss the same one both read it.
        """
        with self._lock:
            since, board = self._held.get(leaderboard, (-1, None))
        if since > revision:  # the database was restored to an earlier state
            since, board = -1, None
        if board is None or since < revision:
            query = select(*_COLUMNS).where(
                StoredStanding.leaderboard_id == leaderboard, StoredStanding.revision > since
            )
            changed = Board.of_rows(session.execute(query).all(), examples)
            board = changed if board is None else board.updated(changed)
        with self._lock:
            self._held[leaderboard] = (revision, board)
            self._held.move_to_end(leaderboard)
            while len(self._held) > 1 and sum(len(each) for _, each in self._held.values()) > self._most:
                self._held.popitem(last=False)
        return board
