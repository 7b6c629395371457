"""What importing qcore costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import qcore

DESCRIBE_AND_LIST = """
import sys
import qcore
import qcore.families

for task in qcore.TASKS.values():
    for block in task.blocks:
        for bits in ("float", "W2A2"):
            qcore.BitWidths.parse(bits)
        qcore.describe(qcore.Architecture.parse(qcore.families.FAMILIES[block].example), task)
    example = qcore.Architecture.parse(qcore.families.FAMILIES[task.blocks[0]].example)
    qcore.stages_of(task, example, task.recipes[0], 0, (qcore.FLOAT,))[0].key
print(*sorted({"torch", "torchvision", "sklearn", "ray"} & set(sys.modules)))
"""


def test_describing_networks_and_listing_tasks_loads_no_training_library() -> None:
    done = subprocess.run([sys.executable, "-c", DESCRIBE_AND_LIST], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_name_that_trains_loads_torch_when_it_is_asked_for() -> None:
    code = "import sys, qcore; before = 'torch' in sys.modules; qcore.evaluate; print(before, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("name", qcore.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(qcore, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonesuch"):
        qcore.nonesuch  # noqa: B018  the access is the test
