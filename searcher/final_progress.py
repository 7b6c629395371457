"""Progress of searches, remembered from one request to the next where nothing can change it any more.

Counting epochs reads every stage that a search wants, of all searches that a list shows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from searcher.progress import progress_of_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from searcher.progress import Progress
    from searcher.tables import Search

MOST_SEARCHES = 10_000

_Ended = tuple[int, float, float | None]


class FinalProgress:
    """Safe to share between threads; of one database."""

    def __init__(self, most_searches: int = MOST_SEARCHES) -> None:
        self._most = most_searches
        self._held: OrderedDict[_Ended, Progress] = OrderedDict()
        self._lock = threading.Lock()

    def of_all(self, session: Session, searches: Sequence[Search]) -> dict[int, Progress]:
        """As ``progress_of_all``."""
        ended = {each.id: _ended(each) for each in searches if each.status != "running"}
        with self._lock:
            found = {number: self._held[key] for number, key in ended.items() if key in self._held}
            for number in found:
                self._held.move_to_end(ended[number])
        left = [each for each in searches if each.id not in found]
        others = progress_of_all(session, left) if left else {}
        with self._lock:
            for number, told in others.items():
                # What an ended search lacks, another that wants it may yet have trained.
                if number in ended and told.evaluations.keys() <= {"done"}:
                    self._held[ended[number]] = told
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return found | others


def _ended(search: Search) -> _Ended:
    """A search that is extended ends anew, and a number may be another search's in a restored database."""
    return search.id, search.created_at, search.ended_at
