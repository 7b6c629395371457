"""Pages: what a browser shows of a resource lies where REST has it, below ``/ui``."""

from fastapi import APIRouter

from service.routes.pages import compare, evaluation, leaderboard, new_search, search, searches, workers

router = APIRouter(include_in_schema=False)
for page in (searches, new_search, search, evaluation, compare, leaderboard, workers):
    router.include_router(page.router)
