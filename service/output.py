"""What commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from qcore import recipe
from searcher.provisional import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Progress

_MOST_TIED = 3
_UNKNOWN = "–"


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with the first text column to the left and numbers to the right; never narrower than its content."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    sys.stdout.write(f"{title}\n")
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numbers = all(row[index][:1].isdigit() or row[index][:1] in (_UNKNOWN, "-") for row in rows)
        table.add_column(column, justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False)  # what stands in brackets is somebody's text
    # A narrow terminal wraps the lines; a cut number would be a wrong one.
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)
    console.print(table)


def progress_bar(unit: str = "epochs") -> Progress:
    """A progress bar on standard error, silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def number(value: int) -> str:
    return f"{value:,}"


def percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def print_leaderboard(title: str, leaderboard: dict[str, Any]) -> None:
    """A leaderboard as REST answers it, and what its recipe changes."""
    bit_widths = leaderboard["bit_widths"]
    ranking = bit_widths[0]
    columns = ["rank", "ranks 95 %", "architecture", "parameters", f"{ranking} val", "val 95 %"]
    columns += [*bit_widths, "float", "drop", "evaluation"]
    rows = [
        [
            str(entry["rank"]),
            _range(entry["ranks"]["lowest"], entry["ranks"]["highest"], "d"),
            entry["architecture"]
            + (" (diverged)" if entry["diverged"] else "")
            + (" (provisional)" if entry["provisional"] else ""),
            number(entry["parameters"]),
            percent(entry["accuracy"][ranking]["validation"]),
            _UNKNOWN
            if entry["interval"] is None
            else _range(entry["interval"]["low"], entry["interval"]["high"], ".1f"),
            *[percent(entry["accuracy"][bits]["test"]) for bits in bit_widths],
            percent(entry["accuracy"]["float"]["test"]),
            percent(entry["drop"]),
            ", ".join(map(str, entry["evaluations"])),
        ]
        for entry in leaderboard["entries"]
    ]
    if not rows:
        print(f"{title}: no finished evaluation at {ranking} yet.")  # noqa: T201
    else:
        print_table(f"{title} (test accuracy %, ranked by {ranking} validation accuracy)", columns, rows)
        for note in _notes(leaderboard):
            print(note)  # noqa: T201
    print_recipe_changes(leaderboard["recipe"]["name"], leaderboard["recipe_changes"])


def _notes(leaderboard: dict[str, Any]) -> Iterator[str]:
    kinds = {entry["interval"]["kind"] for entry in leaderboard["entries"] if entry["interval"]}
    if "t" in kinds:
        yield "95 %: intervals of means over seeds (Student's t, variance pooled over networks)."
    elif "binomial" in kinds:
        examples = number(leaderboard["validation_examples"])
        yield f"95 %: binomial intervals of one seed's network on {examples} validation examples."
    lacking = {entry["architecture"]: entry["provisional"] for entry in leaderboard["entries"] if entry["provisional"]}
    if lacking:
        first, missing = next(iter(lacking.items()))
        more = f"; and {len(lacking) - 1} more lack some" if len(lacking) > 1 else ""
        yield f"Provisional, best at nothing until it is there: {first} lacks {in_words(missing)}{more}."
    best = {bits: names for bits, names in leaderboard["best"].items() if names}
    if leaderboard["total"] > 1 and best:
        told = (f"{bits} {', '.join(names[:_MOST_TIED])}" for bits, names in best.items())
        yield f"Best by validation accuracy: {'; '.join(told)}."
    if leaderboard["total"] > len(leaderboard["entries"]):
        yield f"{len(leaderboard['entries'])} of {number(leaderboard['total'])} entries."
    if leaderboard["order_agreement"] is not None:
        ranking = leaderboard["bit_widths"][0]
        yield f"Kendall's tau between the float and the {ranking} order: {leaderboard['order_agreement']:.2f}."


def _range(low: float, high: float, form: str) -> str:
    """A number where both ends are one as written."""
    ends = f"{low:{form}}", f"{high:{form}}"
    return ends[0] if ends[0] == ends[1] else "–".join(ends)


def print_recipe_changes(name: str, changes: dict[str, Any]) -> None:
    """The settings of a recipe that are not those of the one it is named after; nothing where there are none."""
    if changes:
        print(f"{name}: {recipe.in_words(changes)}")  # noqa: T201
