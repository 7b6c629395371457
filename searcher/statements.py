"""Statements that are asked again and again: their text is made once, with their constants in it.

To make the text of a claim takes longer than to execute it; and PostgreSQL keeps the plan of a prepared statement, if
its constants are no parameters whose values might ask for another one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import CursorResult
    from sqlalchemy.orm import Session

_PARAMETER = re.compile(r"%\((\w+)\)s|__\[POSTCOMPILE_(\w+)\]")


def ask(session: Session, make: Callable[..., Any], *given: Any, **values: Any) -> CursorResult[Any]:
    """What a statement's execution returns, in the database's own types; nothing is flushed before it.

    Args:
        make: builds the statement; always the same for the same ``given``. Values that it holds are its constants.
        values: of its parameters, which are those that have no value.
    """
    connection = session.connection()
    of_kind: Any = type(connection.dialect)
    return connection.exec_driver_sql(_text(of_kind, make, given), values)


@lru_cache(maxsize=256)
def _text(of_kind: Any, make: Callable[..., Any], given: tuple[Any, ...]) -> str:
    """A statement as the driver of that kind of dialect takes it, with names for its parameters."""
    compiled = make(*given).compile(dialect=of_kind(paramstyle="pyformat"))
    is_pyformat = of_kind.default_paramstyle == "pyformat"

    def written(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        parameter = compiled.binds[name]
        if parameter.required:
            return f"%({name})s" if is_pyformat else f":{name}"
        constants = parameter.value if found[2] else [parameter.value]
        return ", ".join(compiled.render_literal_value(each, parameter.type) for each in constants)

    text = _PARAMETER.sub(written, str(compiled))
    return text if is_pyformat else text.replace("%%", "%")
