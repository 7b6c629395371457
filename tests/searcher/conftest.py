"""What tests of this folder share: a Ray cluster of two nodes, started once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SMALL_STORE = {"object_store_memory": 80_000_000}


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes, of two cores and one; nobody is connected to it."""
    from ray.cluster_utils import Cluster

    # Nodes find what tests share (``played``) as this process does.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **SMALL_STORE})
        found.add_node(num_cpus=1, **SMALL_STORE)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def cluster(two_nodes: Any) -> Iterator[Any]:
    """The cluster, this process being connected to it."""
    import ray

    ray.init(two_nodes.address, logging_level="ERROR", log_to_driver=False)
    yield two_nodes
    ray.shutdown()
