"""Why a request is not let in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_REMEDY = (
    "send a key as `Authorization: Bearer KEY` (commands take it from QUANTRANK_API_KEY or QUANTRANK_API_KEY_FILE); "
    "`quantrank keys create`, where the server's database is, makes one"
)
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="quantrank"'}
"""The header that goes with status 401."""


class Refusal(Exception):  # noqa: N818  it is an answer
    """An answer in place of the one that was asked for."""

    def __init__(self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(title=title, status=status, detail=detail)
        self.headers = headers
