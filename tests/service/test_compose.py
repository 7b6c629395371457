"""docker-compose.yml: valid by the compose specification, and its commands are the command line's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from service.cli import _parser

FILE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(FILE.read_text())["services"]
    return found


def test_it_follows_the_compose_specification() -> None:
    checked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    subprocess.run(checked, check=True)


def test_every_command_is_one_that_quantrank_takes(services: dict[str, Any]) -> None:
    own = {name: service["command"] for name, service in services.items() if service.get("image") == "quantrank"}

    assert set(own) == {"migrate", "api", "worker"}
    assert [_parser().parse_args(command).command for command in own.values()] == ["db", "serve", "worker"]


def test_nothing_is_published_beyond_this_host(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
