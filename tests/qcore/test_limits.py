"""Limits of control groups, read from written trees of files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcore import devices, memory
from qcore.limits import core_limit, memory_kills, memory_limit, whole_cores
from qcore.memory import room_of_each

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:27 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 23 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)
OTHER = "22 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n"


def written(root: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    """A root folder with these files, the two of /proc among them."""
    everything = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": OTHER + mounts, **files}
    for name, text in everything.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit", "cores"),
    [
        ({"a/b/memory.max": "1073741824\n", "a/b/cpu.max": "50000 100000\n"}, 2**30, 0.5),
        ({"a/b/memory.max": "max\n", "a/b/cpu.max": "max 100000\n"}, None, None),
        ({"a/b/memory.max": "max\n", "a/memory.max": "5000\n", "a/cpu.max": "250000 100000\n"}, 5000, 2.5),
        ({"a/b/memory.max": "7000\n", "a/memory.max": "5000\n", "memory.max": "9000\n"}, 5000, None),
        ({"a/b/memory.max": "5000\n", "a/memory.max": "7000\n", "a/b/cpu.max": "100000 100000\n"}, 5000, 1.0),
        ({"a/b/memory.max": "nonsense\n", "a/b/cpu.max": "1\n"}, None, None),
        ({"a/b/cgroup.procs": ""}, None, None),
    ],
)
def test_version_2(files: dict[str, str], limit: int | None, cores: float | None, tmp_path: Path) -> None:
    under = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}

    root = written(tmp_path, "0::/a/b\n", V2.format(root="/"), under)

    assert (memory_limit(root), core_limit(root)) == (limit, cores)


def test_version_1_has_a_hierarchy_for_each_controller(tmp_path: Path) -> None:
    cgroup = "5:memory:/docker/c\n4:cpu,cpuacct:/docker/c\n1:name=systemd:/\n0::/\n"
    files = {
        "sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/c/cpu.cfs_quota_us": "150000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/c/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us": "100000\n",
    }

    root = written(tmp_path, cgroup, V1.format(root="/"), files)

    assert (memory_limit(root), core_limit(root)) == (2_000_000_000, 1.5)


@pytest.mark.parametrize("path", ["/docker/c", "/", "/../other", "/elsewhere"])
def test_inside_a_container_the_mounted_folder_is_its_own_group(path: str, tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }

    root = written(tmp_path, f"5:memory:{path}\n4:cpu,cpuacct:{path}\n", V1.format(root="/docker/c"), files)

    assert (memory_limit(root), core_limit(root)) == (1_000_000_000, 0.5)


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert (memory_limit(tmp_path), core_limit(tmp_path), memory_kills(tmp_path)) == (None, None, None)


@pytest.mark.parametrize(("quota", "expected"), [("50000", 1), ("100000", 1), ("150000", 2), ("9900000", 8)])
def test_a_part_of_a_core_counts_as_one(quota: str, expected: int, tmp_path: Path) -> None:
    root = written(tmp_path, "0::/\n", V2.format(root="/"), {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})

    assert whole_cores(8, root) == expected


@pytest.mark.parametrize(
    ("cgroup", "mounts", "name"),
    [
        ("0::/\n", V2, "sys/fs/cgroup/memory.events"),
        ("5:memory:/\n", V1, "sys/fs/cgroup/memory/memory.oom_control"),
    ],
)
def test_processes_that_the_kernel_killed_for_memory_are_counted(
    cgroup: str, mounts: str, name: str, tmp_path: Path
) -> None:
    told = {name: "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}

    assert memory_kills(written(tmp_path, cgroup, mounts.format(root="/"), told)) == 4


def test_cores_and_memory_are_those_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "whole_cores", lambda cores: min(cores, 1))
    monkeypatch.setattr(memory, "memory_limit", lambda: 10**9)

    assert devices.usable_cores() == 1
    assert memory.device_bytes("cpu") == 10**9


def test_processes_of_one_host_divide_its_memory_but_for_the_libraries() -> None:
    assert room_of_each(None, 2) is None
    assert room_of_each(2 * 10**9, 1) == 2 * 10**9
    each = room_of_each(2 * 10**9, 4)
    assert each is not None
    assert 10**9 / 2 < each < 10**9
