"""Allowances: how much the holder of an API key may ask for. Functions take a session and never commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from qcore.errors import InvalidInput
from searcher.budgets import MOST_BIT_OPERATIONS, MOST_MODEL_BYTES, MOST_PARAMETERS
from searcher.tables import ApiKey, Search

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy.orm import Session

    from searcher.request import Limits, SearchRequest

OF_ONE_SEARCH = ("parameter_budget", "model_bytes_budget", "bit_operations_budget", "max_evaluations")
"""Fields of a request that a key may have a most for. A request then has to give them."""
ALLOWANCES = {
    "max_running": 10_000,
    "max_parameter_budget": MOST_PARAMETERS,
    "max_model_bytes_budget": MOST_MODEL_BYTES,
    "max_bit_operations_budget": MOST_BIT_OPERATIONS,
    "max_evaluations": MOST_PARAMETERS,
}
"""What a key may have limits of, as the columns of ``ApiKey`` are called, and the highest that can be said."""


class BeyondAllowance(InvalidInput):
    """A request asks for more than its key may ever have."""


class TooManyRunning(InvalidInput):
    """A key has as many searches running as it may; later it may have another."""


def admit_search(session: Session, key_id: int | None, request: SearchRequest) -> None:
    """Refuses what the key may not post. Whoever posts with the same key at once waits for this transaction.

    Raises:
        BeyondAllowance, TooManyRunning: naming the field.
    """
    if key_id is None:
        return
    key = _locked(session, key_id)
    for field in OF_ONE_SEARCH:
        _check_field(key, field, request)
    _check_running(session, key)


def check_request(session: Session, key_id: int | None, request: SearchRequest) -> None:
    """Refuses early what ``admit_search`` would refuse for its own fields; locks nothing.

    Raises:
        BeyondAllowance: naming the field.
    """
    if key_id is not None:
        key = session.get_one(ApiKey, key_id)
        for field in OF_ONE_SEARCH:
            _check_field(key, field, request)


def admit_extension(session: Session, key_id: int | None, search_id: int, limits: Limits) -> None:
    """Refuses limits that the key may not give, and to have an ended search of its own go on beside too many.

    Raises:
        BeyondAllowance, TooManyRunning: naming the field.
    """
    if key_id is None:
        return
    key = _locked(session, key_id)
    if "max_evaluations" in limits.model_fields_set:
        _check_field(key, "max_evaluations", limits)
    search = session.execute(select(Search.status, Search.posted_by).where(Search.id == search_id)).one_or_none()
    if search is not None and search.status in ("finished", "failed") and search.posted_by == key_id:
        _check_running(session, key)


def _locked(session: Session, key_id: int) -> ApiKey:
    # Of two requests at once the second counts what the first has posted. Rows that refer to the key do not wait.
    query = select(ApiKey).where(ApiKey.id == key_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def _check_field(key: ApiKey, field: str, given: BaseModel) -> None:
    column = field if field in ALLOWANCES else f"max_{field}"
    most, value = getattr(key, column), getattr(given, field)
    if most is not None and (value is None or value > most):
        raise BeyondAllowance(
            field,
            value,
            f"is more than the key {key.name!r} may ask for" if value is not None else "is no limit",
            f"give at most {most}, or use another key",
        )


def _check_running(session: Session, key: ApiKey) -> None:
    if key.max_running is None:
        return
    query = select(func.count()).select_from(Search).where(Search.posted_by == key.id, Search.status == "running")
    running = session.scalars(query).one()
    if running >= key.max_running:
        raise TooManyRunning(
            "max_running",
            running,
            f"searches of the key {key.name!r} are running, and it may have {key.max_running}",
            "wait until one has ended, cancel one, or use another key",
        )
