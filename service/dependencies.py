"""What routes are given: a session of one transaction, ended before the response goes out."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Path, Request
from sqlalchemy.orm import Session

from searcher.boards import Boards
from searcher.counting import catch_up
from searcher.database import Database
from searcher.final_progress import FinalProgress
from searcher.searches import get_search
from searcher.tables import Search
from service.access.caller import Caller
from service.access.holders import Holders
from service.problems import Forbidden, NotFound
from service.settings import Settings

MOST_ID = 2**63 - 1


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def get_boards(request: Request) -> Boards:
    boards: Boards = request.app.state.boards
    return boards


def get_final_progress(request: Request) -> FinalProgress:
    progress: FinalProgress = request.app.state.final_progress
    return progress


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def get_holders(request: Request) -> Holders:
    holders: Holders = request.app.state.holders
    return holders


def get_caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _reading(database: Annotated[Database, Depends(get_database)]) -> Iterator[Session]:
    with database.read() as session:
        yield session


def _writing(database: Annotated[Database, Depends(get_database)]) -> Iterator[Session]:
    with database.write() as session:
        yield session


def _reading_counted(database: Annotated[Database, Depends(get_database)]) -> Iterator[Session]:
    catch_up(database)
    yield from _reading(database)


Reading = Annotated[Session, Depends(_reading, scope="function")]
CountedReading = Annotated[Session, Depends(_reading_counted, scope="function")]
"""Once standings know every result, also those of workers of a release that keeps none."""
Writing = Annotated[Session, Depends(_writing, scope="function")]
BoardsOf = Annotated[Boards, Depends(get_boards)]
FinalProgressOf = Annotated[FinalProgress, Depends(get_final_progress)]
SettingsOf = Annotated[Settings, Depends(get_settings)]
CallerOf = Annotated[Caller, Depends(get_caller)]
EvaluationId = Annotated[int, Path(ge=1, le=MOST_ID, description="Number of an evaluation.", examples=[1])]
SearchId = Annotated[int, Path(ge=1, le=MOST_ID, description="Number of a search.", examples=[1])]


def _existing_search(session: Reading, search_id: SearchId) -> Search:
    return found_search(get_search(session, search_id), search_id)


def found_search(search: Search | None, search_id: int) -> Search:
    if search is None:
        raise NotFound(f"search {search_id}", "GET /searches lists those that do")
    return search


def _changeable_search_id(session: Writing, search_id: SearchId, caller: CallerOf) -> int:
    search = found_search(get_search(session, search_id), search_id)
    if not caller.may_change(search.posted_by):
        poster = "without a key" if search.poster is None else f"with the key {search.poster.name!r}"
        raise Forbidden(f"search {search_id} was posted {poster}; use that one, or a key of role admin")
    return search_id


ChangeableSearchId = Annotated[int, Depends(_changeable_search_id)]
"""Of a search that exists and that the caller may change."""
ExistingSearch = Annotated[Search, Depends(_existing_search)]
