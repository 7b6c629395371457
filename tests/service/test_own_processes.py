"""No command leaves processes behind, whatever ends it, and none runs what lies in the current folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.own_processes import own_command
from tests.service.processes import QUANTRANK, Started, hostile_folder, ran, started, wait_until

LONG = '{"float_part": {"schedule": {"epochs": 1000}}}'
SEARCH = ["search", "--task", "digits", "--parameter-budget", "9000", "--blocks", "basic", "--depths", "8,14"]
PACKING = ["packing", "basic-L8-D4", "--task", "digits", "--seconds", "600"]
REPRODUCE = ["reproduce", "figure-3", "--scale", "smoke", "--workers", "2"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUANTRANK_")}
    return {**inherited, "QUANTRANK_HOME": str(tmp_path / "home"), "QUANTRANK_PORT": "9", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return hostile_folder(tmp_path / "folder")


def trains(command: Started) -> bool:
    """Whether the processes of an experiment of the paper are there, and have loaded what they train with."""
    return command.count("spawn_main", library="libtorch_cpu") == 2


def measures(command: Started) -> bool:
    return command.count("spawn_main") >= 1


def searches(command: Started) -> bool:
    return command.count("-m service serve") == 1 and command.count("-m service worker") >= 1


def works(command: Started) -> bool:
    return command.count("-m service worker") == 2


def check_ended(
    command: Started, folder: Path, by: signal.Signals, at_work: Callable[[Started], bool], seconds: float = 60
) -> None:
    wait_until(lambda: at_work(command) or command.process.poll() is not None)
    assert command.process.poll() is None, (folder / "told").read_text()
    command.process.send_signal(by)
    command.process.wait(seconds)
    wait_until(lambda: not command.processes(), seconds)
    assert ran(folder) == ""


@pytest.mark.parametrize(
    "by",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_reproduce_leaves_no_process_behind(environment: dict[str, str], folder: Path, by: signal.Signals) -> None:
    with started(REPRODUCE, environment, folder) as command:
        check_ended(command, folder, by, trains)
        expected = {signal.SIGINT: 130, signal.SIGKILL: -9}.get(by, 128 + by)
        assert command.process.returncode == expected
        assert "Traceback" not in (folder / "told").read_text()


@pytest.mark.parametrize("by", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_search_leaves_neither_its_server_nor_workers_behind(
    environment: dict[str, str], folder: Path, by: signal.Signals
) -> None:
    with started([*SEARCH, "--recipe", LONG], environment, folder) as command:
        check_ended(command, folder, by, searches)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_packing_leaves_no_process_behind(environment: dict[str, str], folder: Path, by: signal.Signals) -> None:
    with started(PACKING, environment, folder) as command:
        check_ended(command, folder, by, measures)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGHUP, signal.SIGKILL])
def test_several_workers_end_with_their_parent(environment: dict[str, str], folder: Path, by: signal.Signals) -> None:
    subprocess.run([QUANTRANK, "db", "upgrade"], env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with started(["worker", "--concurrency", "2"], environment, folder) as command:
        check_ended(command, folder, by, works)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_on_ray_leaves_nothing_of_ray_behind(
    environment: dict[str, str], folder: Path, by: signal.Signals
) -> None:
    with started([*SEARCH, "--engine", "ray", "--recipe", LONG], environment, folder) as command:
        trial_runs = lambda command: command.count("ray::") >= 1 and command.count("raylet") >= 1  # noqa: E731
        check_ended(command, folder, by, trial_runs, seconds=90)


@pytest.mark.slow
def test_what_a_killed_driver_has_started_of_ray_ends_soon(environment: dict[str, str], folder: Path) -> None:
    """Ray's agents would go on for more than a minute."""
    subprocess.run([QUANTRANK, "db", "upgrade"], env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with started(["ray"], environment, folder) as command:
        check_ended(
            command,
            folder,
            signal.SIGKILL,
            lambda command: command.count("raylet/raylet") == 1 and command.count("ray::") > 0,
            45,
        )


def test_a_child_that_does_not_heed_the_end_of_its_parent_is_ended(tmp_path: Path) -> None:
    program = "import os, time\nfrom qcore import processes\nprocesses._GRACE_SECONDS = 0.1\n"
    program += (
        "processes.end_with_parent(os.getppid(), lambda: print('asked', flush=True))\nprint('there', flush=True)\n"
    )
    program += "time.sleep(600)\n"
    parent_of = "import subprocess, sys, os\nsubprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
    parent_of += "sys.stdin.read()\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_of, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "there\n"
    parent.kill()
    assert parent.stdout.read() == "asked\n"  # and to its end: nobody holds the pipe any more
    parent.communicate()


SHOW_PATH = "import sys; sys.argv = ['quantrank', '--version']\n"
SHOW_PATH += "from service.cli import main\ntry: main()\nexcept SystemExit: print(*sys.path, sep='\\n')\n"


@pytest.mark.parametrize("given", ["", ":", ".", "src", "/somewhere:"])
def test_a_relative_entry_of_pythonpath_is_left_out_and_others_stay(
    environment: dict[str, str], tmp_path: Path, given: str
) -> None:
    environment |= {"PYTHONPATH": given}
    command = [sys.executable, "-P", "-c", SHOW_PATH]
    shown = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    path = shown.splitlines()
    assert str(tmp_path) not in path
    assert str(tmp_path / "src") not in path
    assert "" not in path
    assert ("/somewhere" in path) == (given == "/somewhere:")


def test_the_current_folder_is_on_no_path_of_an_own_command(environment: dict[str, str], folder: Path) -> None:
    """Not even where a user has started the interpreter so that it looks there."""
    shown = subprocess.run(
        [*own_command("describe")[:-2], "basic-L8-D8", "--task", "digits"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "parameters" in shown.stdout
    (folder / "service.py").unlink()
    typed = [sys.executable, "-m", "service", "describe", "basic-L8-D8", "--task", "digits"]
    again = subprocess.run(typed, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    assert again.stdout == shown.stdout
    assert ran(folder) == ""
