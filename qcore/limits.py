"""The memory and the processors that control groups (versions 1 and 2) leave to this process, as containers have them.

A group's limits hold for the groups inside it too, so every group from the process's own up to the root is read. In a
container the path that the kernel tells may not exist: the folder that is mounted is the container's own group then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_UNLIMITED = 2**60
"""Version 1 says "no limit" with the largest number of pages, in bytes."""


@dataclass(frozen=True)
class _Group:
    """The folders of a process's group, its own first, in one hierarchy."""

    version: int
    folders: tuple[Path, ...]


def memory_limit(root: Path = _ROOT) -> int | None:
    """The most bytes that this process's groups may take together; None without a limit.

    Args:
        root: where ``/proc`` and the mounted hierarchies are looked for.
    """
    found = []
    for group in _groups("memory", root):
        names = ("memory.max",) if group.version == 2 else ("memory.limit_in_bytes",)
        found += [int(each) for folder in group.folders for name in names if (each := _read(folder / name)).isdigit()]
    return min((each for each in found if 0 < each < _UNLIMITED), default=None)


def core_limit(root: Path = _ROOT) -> float | None:
    """How many cores' time this process's groups may take together, as 0.5; None without a limit."""
    found = []
    for group in _groups("cpu", root):
        for folder in group.folders:
            if group.version == 2:
                words = _read(folder / "cpu.max").split()
            else:
                words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
            if len(words) == 2 and all(each.isdigit() and int(each) > 0 for each in words):
                found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def whole_cores(cores: int, root: Path = _ROOT) -> int:
    """The whole cores among ``cores`` that a limit leaves: at least one, a fraction counts as one."""
    limit = core_limit(root)
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def memory_kills(root: Path = _ROOT) -> int | None:
    """How many processes of this process's own group the kernel has killed for memory; None where it does not tell."""
    for group in _groups("memory", root):
        name = "memory.events" if group.version == 2 else "memory.oom_control"
        for line in _read(group.folders[0] / name).splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == "oom_kill" and words[1].isdigit():
                return int(words[1])
    return None


def _groups(controller: str, root: Path) -> Iterator[_Group]:
    """This process's group in each hierarchy that may limit what a controller counts."""
    mounts = list(_mounts(root))
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator or (controllers and controller not in controllers.split(",")):
            continue
        version = 1 if controllers else 2
        for kind, options, mounted_root, place in mounts:
            if kind == ("cgroup2" if version == 2 else "cgroup") and (version == 2 or controller in options):
                yield _Group(version, _folders(root / place.lstrip("/"), path, mounted_root))


def _mounts(root: Path) -> Iterator[tuple[str, list[str], str, str]]:
    """Kind, options, the part that is mounted, and the folder, of each mounted hierarchy (proc(5), mountinfo)."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, separator, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if separator and len(place) >= 5 and len(kind) >= 3 and kind[0] in ("cgroup", "cgroup2"):
            yield kind[0], kind[2].split(","), place[3], place[4]


def _folders(mounted: Path, path: str, mounted_root: str) -> tuple[Path, ...]:
    """The group's folder and those above it, up to the one that is mounted."""
    is_inside = f"{path}/".startswith(f"{mounted_root.rstrip('/')}/")
    inside = path.removeprefix(mounted_root.rstrip("/")) if is_inside else "/"
    own = mounted / inside.strip("/")
    if ".." in Path(inside).parts or not own.is_dir():
        own = mounted
    above = [each for each in own.parents if each == mounted or mounted in each.parents]
    return (own, *above)


def _read(path: Path) -> str:
    """The text of a small file; "" where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
