"""Tasks: the data sets networks are compared on. One file each; listing them needs neither torch nor the data."""

from __future__ import annotations

from qcore.errors import InvalidInput
from qcore.tasks import cifar10, digits, fashion_mnist, fashion_mnist_14, rings
from qcore.tasks.task import Examples, Task

TASKS: dict[str, Task] = {
    task.name: task for task in (digits.TASK, fashion_mnist.TASK, fashion_mnist_14.TASK, cifar10.TASK, rings.TASK)
}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InvalidInput: for an unknown name.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise InvalidInput("task", name, "is not a task", f"use one of {', '.join(TASKS)}") from None


__all__ = ["TASKS", "Examples", "Task", "get_task"]
