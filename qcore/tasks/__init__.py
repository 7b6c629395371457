"""Tasks: the data sets networks are compared on. One file each; listing them needs neither torch nor the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcore.errors import InvalidInput
from qcore.tasks import cifar, digits, fashion_mnist, fashion_mnist_14, image_folder, imagenet, rings, voc2012
from qcore.tasks.task import Examples, FileExamples, Task

if TYPE_CHECKING:
    from pathlib import Path

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        digits.TASK,
        fashion_mnist.TASK,
        fashion_mnist_14.TASK,
        cifar.TASK_10,
        cifar.TASK_100,
        imagenet.TASK,
        voc2012.TASK,
        voc2012.TASK_AUGMENTED,
        rings.TASK,
    )
}
"""Those with a name of their own; the user's image folders come beside them."""


def get_task(name: str, data_root: Path | None = None) -> Task:
    """The task of that name; ``data_root`` is where image folders are looked for.

    Raises:
        InvalidInput: for an unknown name.
        DataMissing: when an image folder is not there or not one of images.
    """
    if data_root is not None and name.startswith(image_folder.PREFIX):
        return image_folder.task_of(name, data_root)
    return _named(name)


def stored_task(name: str, version: str) -> Task:
    """The task that results were stored for, whether or not its data are here.

    Its version is another than asked for where this release has another; an image folder's ``load`` insists on it.

    Raises:
        InvalidInput: for a name that this release does not know.
    """
    return image_folder.stored_task_of(name, version) if name.startswith(image_folder.PREFIX) else _named(name)


def list_tasks(data_root: Path) -> list[Task]:
    """Every task: those with a name of their own, then the image folders below the data root."""
    return [*TASKS.values(), *image_folder.tasks_below(data_root)]


def _named(name: str) -> Task:
    try:
        return TASKS[name]
    except KeyError:
        known = f"use one of {', '.join(TASKS)}, or images/<folder> for your own images"
        raise InvalidInput("task", name, "is not a task", known) from None


__all__ = ["TASKS", "Examples", "FileExamples", "Task", "get_task", "list_tasks", "stored_task"]
