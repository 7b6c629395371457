"""A leaderboard as a table for spreadsheets and data frames: one row an entry, one column a value."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from searcher.provisional import in_words

if TYPE_CHECKING:
    from service.schemas import EntryView, LeaderboardView

_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def leaderboard_csv(board: LeaderboardView) -> str:
    """With a header, also of no entries. Lists are separated by spaces; what is not known is empty; what a spreadsheet
    would take for a formula has an apostrophe before it.
    """
    ranking = board.bit_widths[0]
    rows = [_row(board, entry, ranking) for entry in board.entries]
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(board, ranking))
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """A value that a spreadsheet does not compute, whatever hosts and folders are called. Numbers stay numbers.

    >>> _cell("=1+1"), _cell("digits"), _cell(-1.5)
    ("'=1+1", 'digits', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_BEGINS_A_FORMULA) else value


def _columns(board: LeaderboardView, ranking: str) -> list[str]:
    return [
        *("rank", "rank_lowest", "rank_highest", "architecture", "block", "depth", "width"),
        *(f"{ranking}_validation", "interval_low", "interval_high", "interval_kind", "seeds", "diverged"),
        *(f"{bits}_test" for bits in board.bit_widths),
        *("float_validation", "float_test", "drop", "parameters", "macs"),
        *(f"{ranking}_bit_operations", f"{ranking}_model_bytes", "train_seconds", "best_at", "provisional"),
        "evaluations",
        *("task", "recipe", "recipe_hash", "quantrank", "numerics", "torch", "python", "device", "revision", "command"),
    ]


def _row(board: LeaderboardView, entry: EntryView, ranking: str) -> dict[str, Any]:
    interval, of_float = entry.interval, entry.accuracy["float"]
    own = entry.model_dump(
        include={"rank", "architecture", "block", "depth", "width", "diverged", "drop", "parameters", "macs", "command"}
    )
    return own | {
        "rank_lowest": entry.ranks.lowest,
        "rank_highest": entry.ranks.highest,
        f"{ranking}_validation": entry.accuracy[ranking].validation,
        "interval_low": interval and interval.low,
        "interval_high": interval and interval.high,
        "interval_kind": interval and interval.kind,
        "seeds": _joined(entry.seeds),
        **{f"{bits}_test": entry.accuracy[bits].test for bits in board.bit_widths},
        "float_validation": of_float.validation,
        "float_test": of_float.test,
        f"{ranking}_bit_operations": entry.bit_operations[ranking],
        f"{ranking}_model_bytes": entry.model_bytes[ranking],
        "train_seconds": entry.train_seconds,
        "best_at": _joined(entry.best_at),
        "provisional": in_words(entry.provisional or {}),
        "evaluations": _joined(entry.evaluations),
        "task": board.task,
        "recipe": board.recipe.name,
        "recipe_hash": board.recipe.hash,
        **{
            name: _joined(dict.fromkeys(filter(None, (getattr(each, name) for each in entry.provenance))), ", ")
            for name in ("quantrank", "numerics", "torch", "python", "device", "revision")
        },
    }


def _joined(values: Any, separator: str = " ") -> str:
    return separator.join(map(str, values))
