"""What of a leaderboard a user wants to see: it is in the page's address, so that links keep it."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query

from service.dependencies import MOST_ID

SHOWN_ROWS = 50


@dataclass(frozen=True)
class TableQuery:
    """A route's query parameters."""

    sort: Annotated[str, Query(max_length=32)] = "rank"
    """A column's key, with a minus before it downwards."""
    block: Annotated[tuple[str, ...], Query(max_length=32)] = ()
    name: Annotated[str, Query(max_length=64)] = ""
    max_parameters: Annotated[str, Query(max_length=20)] = ""
    """As the form sends it: empty for none."""
    rows: Annotated[int, Query(ge=1, le=MOST_ID)] = SHOWN_ROWS

    @property
    def most_parameters(self) -> int | None:
        return number_of(self.max_parameters)

    @property
    def filters(self) -> bool:
        return bool(self.block or self.name or self.most_parameters is not None)

    def address(self, **changes: object) -> str:
        """The query part of the page's address with some of it changed; what is as it is anyway is left out."""
        values: dict[str, object] = {
            "sort": self.sort,
            "block": list(self.block),
            "name": self.name,
            "max_parameters": self.max_parameters,
            "rows": self.rows,
        } | changes
        usual = {"sort": "rank", "rows": SHOWN_ROWS}
        kept = {key: value for key, value in values.items() if value and value != usual.get(key)}
        return f"?{urlencode(kept, doseq=True)}"


def number_of(text: str) -> int | None:
    """What a form's field says; None if it is empty, or no whole number."""
    return int(text) if text.isascii() and text.isdigit() else None
