"""Server-sent events, as they come over the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENDING_EVENTS = ("search_finished", "search_failed", "search_cancelled")


class SearchEvent(NamedTuple):
    """Something that happened to a search."""

    id: int | None
    """None of ``progress``, which is not stored."""
    kind: str
    data: dict[str, Any]


def parse_events(lines: Iterable[str]) -> Iterator[SearchEvent]:
    """The events in a stream's lines; comments, which only say that the server is alive, are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            if "event" in fields and "data" in fields:
                number = fields.get("id")
                yield SearchEvent(None if number is None else int(number), fields["event"], json.loads(fields["data"]))
            fields = {}
