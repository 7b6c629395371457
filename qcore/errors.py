"""What a user can get wrong, as values that name the field and the remedy.

A programmer's error raises an ordinary exception; these are for input that came from outside.
"""

from __future__ import annotations


def in_a_line(field: str, value: object, problem: str, remedy: str) -> str:
    """The four parts of a message as one sentence; None is a value that was not given, and is not shown.

    >>> in_a_line("task", None, "is missing", "add it")
    'task is missing; add it'
    """
    return f"{field} {problem}; {remedy}" if value is None else f"{field}: {value!r} {problem}; {remedy}"


class InvalidInput(ValueError):  # noqa: N818  a word of the glossary, as users read it
    """Input that cannot be used: which field, what it held, what is wrong, and what to do instead.

    >>> print(InvalidInput("bit_widths", "W1A2", "has no 1-bit case", "use 2 to 8 bits or F, e.g. W2A2"))
    bit_widths: 'W1A2' has no 1-bit case; use 2 to 8 bits or F, e.g. W2A2
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(field, value, problem, remedy)
        self.field = field
        self.value = value
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return in_a_line(self.field, self.value, self.problem, self.remedy)


class NotHere(InvalidInput):
    """This machine lacks what computing takes; another may have it, and this one later."""


class DataMissing(InvalidInput):
    """The files of a task's data set are not under the data root, or are not the published ones."""
