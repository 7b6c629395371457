"""No process outlives the one that started it: how a child notices that its parent is gone."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 15.0


def end_with_parent(parent: int, ask: Callable[[], None] | None = None) -> None:
    """Ends this process soon after ``parent``, the process that started it, is gone, however that ended.

    It is ended at once; or, with ``ask``, which has it end by itself, if it has not done so some seconds later.
    """

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(_LOOK_SECONDS)
        if ask is not None:
            ask()
            pause.wait(_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
