"""Shipping a trained network: as ONNX, packed at its true bit widths, or as safetensors. Needs no torch but to load.

``deploy`` makes the one description that ONNX and packed files are written from and that ``execute`` computes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qcore.export.formats import FORMATS, export

if TYPE_CHECKING:
    from qcore.export.deployed import DeployedNetwork, deploy
    from qcore.export.description import NetworkDescription
    from qcore.export.executor import Execution, execute
    from qcore.export.network_file import TrainedNetwork, load_network, read_network_file, to_safetensors
    from qcore.export.onnx import to_onnx
    from qcore.export.packed import PackedFile, pack, read_packed, unpack

_MODULES = {
    "DeployedNetwork": "deployed",
    "Execution": "executor",
    "NetworkDescription": "description",
    "PackedFile": "packed",
    "TrainedNetwork": "network_file",
    "deploy": "deployed",
    "execute": "executor",
    "load_network": "network_file",
    "pack": "packed",
    "read_network_file": "network_file",
    "read_packed": "packed",
    "to_onnx": "onnx",
    "to_safetensors": "network_file",
    "unpack": "packed",
}

__all__ = [
    "FORMATS",
    "DeployedNetwork",
    "Execution",
    "NetworkDescription",
    "PackedFile",
    "TrainedNetwork",
    "deploy",
    "execute",
    "export",
    "load_network",
    "pack",
    "read_network_file",
    "read_packed",
    "to_onnx",
    "to_safetensors",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"qcore.export.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'qcore.export' has no attribute {name!r}")
