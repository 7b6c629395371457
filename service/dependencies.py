"""What routes are given, and what they ask in their own transactions. Nothing here takes a thread."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request, Response
from sqlalchemy.orm import Session

from searcher.boards import Boards
from searcher.counting import catch_up
from searcher.database import Database
from searcher.final_progress import FinalProgress
from searcher.searches import get_search
from searcher.tables import Search
from service.access.caller import Caller
from service.access.holders import Holders
from service.lanes import Lane, in_lane
from service.problems import Forbidden, NotFound
from service.settings import Settings

R = TypeVar("R")

MOST_ID = 2**63 - 1


async def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def get_boards(request: Request) -> Boards:
    boards: Boards = request.app.state.boards
    return boards


async def get_final_progress(request: Request) -> FinalProgress:
    progress: FinalProgress = request.app.state.final_progress
    return progress


async def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def get_holders(request: Request) -> Holders:
    holders: Holders = request.app.state.holders
    return holders


async def get_caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


DatabaseOf = Annotated[Database, Depends(get_database)]
BoardsOf = Annotated[Boards, Depends(get_boards)]
FinalProgressOf = Annotated[FinalProgress, Depends(get_final_progress)]
SettingsOf = Annotated[Settings, Depends(get_settings)]
HoldersOf = Annotated[Holders, Depends(get_holders)]
CallerOf = Annotated[Caller, Depends(get_caller)]
EvaluationId = Annotated[int, Path(ge=1, le=MOST_ID, description="Number of an evaluation.", examples=[1])]
SearchId = Annotated[int, Path(ge=1, le=MOST_ID, description="Number of a search.", examples=[1])]


def reads(
    lane: Lane = Lane.READS, *, counted: bool = False
) -> Callable[[Callable[..., R]], Callable[..., Coroutine[Any, Any, R | Response]]]:
    """Has a route's function run in a lane with a ``session`` that only reads.

    ``counted`` has standings know every result before, also those of workers of a release that keeps none.
    """

    @contextmanager
    def opened(database: Database) -> Iterator[Session]:
        if counted:
            catch_up(database)
        with database.read() as session:
            yield session

    return lambda endpoint: in_lane(lane)(_with_session(endpoint, opened))


def writes(endpoint: Callable[..., R]) -> Callable[..., Coroutine[Any, Any, R | Response]]:
    """Has a route's function run in the lane of writes with a ``session`` of one transaction, committed at its end."""
    return in_lane(Lane.WRITES)(_with_session(endpoint, Database.write))


def _with_session(
    endpoint: Callable[..., R], opened: Callable[[Database], AbstractContextManager[Session]]
) -> Callable[..., R]:
    """A route's function that opens the session it takes, and closes it: all in the thread that calls it."""

    @functools.wraps(endpoint)
    def called(*, database_: Database, **given: Any) -> R:
        with opened(database_) as session:
            return endpoint(session=session, **given)

    signature = inspect.signature(endpoint)
    others = [each for name, each in signature.parameters.items() if name != "session"]
    own = inspect.Parameter("database_", inspect.Parameter.KEYWORD_ONLY, annotation=DatabaseOf)
    called.__signature__ = signature.replace(parameters=[*others, own])  # type: ignore[attr-defined]
    return called


def existing_search(session: Session, search_id: int) -> Search:
    """A search by its number.

    Raises:
        NotFound: when there is none.
    """
    return found_search(get_search(session, search_id), search_id)


def found_search(search: Search | None, search_id: int) -> Search:
    if search is None:
        raise NotFound(f"search {search_id}", "GET /searches lists those that do")
    return search


def check_may_change(session: Session, search_id: int, caller: Caller) -> None:
    """Checks that a search exists and that the caller may change it.

    Raises:
        NotFound, Forbidden: when one of the two is not so.
    """
    search = existing_search(session, search_id)
    if not caller.may_change(search.posted_by):
        poster = "without a key" if search.poster is None else f"with the key {search.poster.name!r}"
        raise Forbidden(f"search {search_id} was posted {poster}; use that one, or a key of role admin")
