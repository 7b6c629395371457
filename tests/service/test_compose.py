"""docker-compose.yml and the Dockerfile: valid, pinned, confined; what they start is rehearsed elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from rehearsal import CHECKOUT, compose_file, dockerfile, image

from service.cli import _parser

PINNED = re.compile(r"[\w./-]+:[\w.-]*\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}")


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose_file()["services"]
    return found


def test_it_follows_the_compose_specification() -> None:
    checked = ["--builtin-schema", "vendor.compose-spec", str(CHECKOUT / "docker-compose.yml")]
    subprocess.run([sys.executable, "-m", "check_jsonschema", *checked], check=True)


def test_the_linter_has_nothing_against_the_dockerfile() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([linter, CHECKOUT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_every_command_is_one_that_quantrank_takes(services: dict[str, Any]) -> None:
    own = {
        name: service["command"]
        for name, service in services.items()
        if "build" in service and "entrypoint" not in service
    }

    assert {name: _parser().parse_args(command).command for name, command in own.items()} == {
        "migrate": "db",
        "api": "serve",
        "worker": "worker",
        "worker-gpu": "worker",
        "ray-driver": "ray",
    }
    assert image()[0] == ["quantrank"]


def test_whatever_opens_the_database_starts_after_its_tables_are_there(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if "build" in service and "entrypoint" not in service:
            needed = (
                {"postgres": "service_healthy"} if name == "migrate" else {"migrate": "service_completed_successfully"}
            )
            found = {other: each["condition"] for other, each in service["depends_on"].items()}
            assert found.items() >= needed.items(), name


def test_nothing_is_published_beyond_this_host(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_what_is_not_built_here_is_pinned_by_tag_and_digest(services: dict[str, Any]) -> None:
    pulled = [service["image"] for service in services.values() if "build" not in service]
    stages = {rest.split(" AS ")[1] for instruction, rest in dockerfile() if instruction == "FROM" and " AS " in rest}
    bases = [rest.split(" AS ")[0] for instruction, rest in dockerfile() if instruction == "FROM"]

    assert pulled
    assert [name for name in [*pulled, *bases] if name not in stages and not PINNED.fullmatch(name)] == []


def test_nobody_is_root_and_nobody_may_become_it(services: dict[str, Any]) -> None:
    assert dict(dockerfile())["USER"] == "1000:1000"
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "build" in service or service["user"] != "root", name


def test_secrets_are_in_files_alone(services: dict[str, Any]) -> None:
    secrets = compose_file()["secrets"]
    said = {name: value for each in services.values() for name, value in each["environment"].items()}

    assert {secret["file"] for secret in secrets.values()} == {f"./secrets/{name}" for name in secrets}
    assert {value for name, value in said.items() if re.search("PASSWORD|KEY|SECRET|TOKEN", name)} == {
        f"/run/secrets/{name}" for name in secrets
    }
    assert not re.search(r"://\w+:", said["QUANTRANK_DATABASE_URL"])


def test_secrets_are_made_once_and_are_nobody_elses_on_this_host(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    contents = []
    for _ in range(2):
        subprocess.run(["make", "--silent", "secrets", f"SECRETS={folder}"], cwd=CHECKOUT, check=True)
        contents.append({path.name: path.read_text() for path in folder.iterdir()})

    assert contents[0] == contents[1]
    assert set(contents[0]) == set(compose_file()["secrets"])
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in contents[0].values())
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_image_is_built_of_what_the_context_has_and_of_the_tested_torch() -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    copied = {
        source
        for instruction, rest in dockerfile()
        if instruction == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    tested = dict(line.split("==") for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if "==" in line)
    chosen = dict(re.findall(r"(TORCH\w*)=([\d.]+)", " ".join(rest for _, rest in dockerfile())))
    packages = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert copied == {line.removeprefix("!/") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert copied >= {*packages["packages"], *packages["force-include"], "pyproject.toml", "constraints.txt"}
    assert chosen == {"TORCH": tested["torch"], "TORCHVISION": tested["torchvision"]}


def test_the_code_is_copied_after_all_that_it_depends_on_is_installed() -> None:
    steps = [f"{instruction} {rest}" for instruction, rest in dockerfile()]
    installed = next(index for index, step in enumerate(steps) if "--requirement requirements.txt" in step)

    assert [step for step in steps[:installed] if step.startswith("COPY")] == ["COPY pyproject.toml constraints.txt ./"]
