"""Lengths of time, as commands and pages tell them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """
    >>> duration(0.4), duration(36), duration(75), duration(7 * 3600 + 120), duration(3 * 86400)
    ('< 1 s', '36 s', '1 min 15 s', '7 h 2 min', '3 d')
    """
    if seconds < 1:
        return "< 1 s"
    parts, left = [], round(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount:
            parts.append(f"{amount} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])
