"""Event loops of tests' own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine in a thread of its own and returns its result.

    In a process that has run a browser test, Playwright's event loop stays behind in the main thread, where
    ``asyncio.run`` then refuses to start another.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
