"""The app behind a real server, in a thread of this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


@contextmanager
def serving(app: FastAPI, port: int = 0, **options: Any) -> Iterator[str]:
    """The URL of a server that runs as long as the block. ``options`` are Uvicorn's."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, **options))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    listening.listen()  # connections wait for the server to start
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        app.state.feed.close()
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()


def events_of(stream: httpx.Response) -> Iterator[dict[str, Any]]:
    """Blocks of a stream of server-sent events as they come; comments have the name ``comment``."""
    block: dict[str, Any] = {}
    for line in stream.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            block[name or "comment"] = value
        elif block:
            yield block
            block = {}
