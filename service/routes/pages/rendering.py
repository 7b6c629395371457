"""How pages are made: templates, and how they write numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from qcore.recipe import in_words
from searcher import provisional
from service import durations

if TYPE_CHECKING:
    from datetime import datetime

    from fastapi import Request, Response

FOLDER = Path(__file__).parents[2] / "pages"
"""Templates, and below ``static`` what browsers load."""

NOTHING = "–"


class OwnFiles(StaticFiles):
    """Styles and scripts. A release changes them together, so browsers ask every time whether they hold."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def render(request: Request, template: str, *, status: int = 200, **context: object) -> Response:
    """The page that a template makes of a context. Whatever is put into it is escaped."""
    return _templates.TemplateResponse(request, template, context, status_code=status)


def percent(value: float | None) -> str:
    """
    >>> percent(97.123), percent(None)
    ('97.12', '–')
    """
    return NOTHING if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """
    >>> count(1234567), count(None)
    ('1,234,567', '–')
    """
    return NOTHING if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """A large number in three digits.

    >>> short_count(950), short_count(20_480), short_count(1_800_000), short_count(999_999)
    ('950', '20.5 k', '1.8 M', '1 M')
    """
    if value is None:
        return NOTHING
    if value < 1000:
        return f"{value:.0f}"
    for power, unit in enumerate("kMGT", start=1):
        scaled = float(f"{value / 1000**power:.3g}")
        if scaled < 1000:
            return f"{scaled:g} {unit}"
    return f"{value:.3g}"


def file_size(value: float | None) -> str:
    """
    >>> file_size(900), file_size(16_896), file_size(3_500_000)
    ('900 B', '16.5 KiB', '3.34 MiB')
    """
    if value is None:
        return NOTHING
    if value < 1024:
        return f"{value:.0f} B"
    power = min(3, int(math.log(value, 1024)))
    return f"{value / 1024**power:.3g} {('KiB', 'MiB', 'GiB')[power - 1]}"


def duration(seconds: float | None) -> str:
    return NOTHING if seconds is None else durations.duration(seconds)


def moment(value: datetime | None) -> str:
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M}"


_templates = Jinja2Templates(
    FOLDER, context_processors=[lambda request: {"caller": getattr(request.state, "caller", None)}]
)
_templates.env.trim_blocks = _templates.env.lstrip_blocks = True
for _filter in (percent, count, short_count, file_size, duration, moment, in_words):
    _templates.env.filters[_filter.__name__] = _filter
_templates.env.filters["missing_in_words"] = provisional.in_words
