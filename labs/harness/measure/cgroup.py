"""A container's control group, read straight from a local Linux engine's files: instant, and in one piece.

Formats: the kernel's Documentation/admin-guide/cgroup-v1 (cpuacct, memory, pids) and cgroup-v2. Container engines give
each container a group of its own whose path carries the container's id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labs.harness.measure.procfs import numbers_in

PROC = Path("/proc")


@dataclass(frozen=True)
class Cpu:
    """Seconds since the group was made, of everything that ever ran in it."""

    total: float
    user: float
    system: float


class Group(Protocol):
    """One container's group. Every method raises OSError once it has been removed."""

    version: str

    def cpu(self) -> Cpu: ...

    def memory_bytes(self) -> int:
        """Anonymous resident memory; a page that processes share by fork counts once."""

    def threads(self) -> int: ...

    def processes(self) -> list[int]:
        """Ids in this machine's namespace."""


@dataclass(frozen=True)
class GroupV1:
    """One folder per controller."""

    cpuacct: Path
    memory: Path
    pids: Path
    version = "cgroup v1"

    def cpu(self) -> Cpu:
        # All three in nanoseconds (cgroup-v1/cpuacct.rst).
        total, user, system = (int((self.cpuacct / name).read_text()) / 1e9
                               for name in ("cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"))
        return Cpu(total, user, system)

    def memory_bytes(self) -> int:
        return numbers_in(self.memory / "memory.stat", ["total_rss"])["total_rss"]

    def threads(self) -> int:
        return int((self.pids / "pids.current").read_text())

    def processes(self) -> list[int]:
        return [int(pid) for pid in (self.pids / "cgroup.procs").read_text().split()]


@dataclass(frozen=True)
class GroupV2:
    """One folder for everything."""

    folder: Path
    version = "cgroup v2"

    def cpu(self) -> Cpu:
        # In microseconds; there without the cpu controller, too (cgroup-v2.rst, "cpu.stat").
        found = numbers_in(self.folder / "cpu.stat", ["usage_usec", "user_usec", "system_usec"])
        return Cpu(found["usage_usec"] / 1e6, found["user_usec"] / 1e6, found["system_usec"] / 1e6)

    def memory_bytes(self) -> int:
        return numbers_in(self.folder / "memory.stat", ["anon"])["anon"]

    def threads(self) -> int:
        return int((self.folder / "pids.current").read_text())

    def processes(self) -> list[int]:
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]


def locate(pid: int, container_id: str, proc: Path = PROC) -> Group | None:
    """The group of the container `container_id` whose first process is `pid`, as this machine sees both.

    None where it can not be seen: the engine runs elsewhere (then `pid` is nobody or somebody else here, and its
    group's path lacks the id), or the files are not to be read. proc: where the proc file system is mounted.
    """
    try:
        memberships = (proc / str(pid) / "cgroup").read_text()
        mounts = _mounts((proc / "self/mountinfo").read_text())
    except OSError:
        return None
    folders: dict[str, Path] = {}
    for line in memberships.splitlines():  # "4:memory:/docker/<id>", or of v2 "0::/system.slice/docker-<id>.scope"
        _, controllers, path = line.split(":", 2)
        if container_id not in path:
            continue
        for controller in controllers.split(","):
            if controller in mounts:
                folders[controller] = mounts[controller] / path.lstrip("/")
    group: Group
    # A machine may have both, with the controllers that matter in v1 ("hybrid").
    if {"cpuacct", "memory", "pids"} <= folders.keys():
        group = GroupV1(folders["cpuacct"], folders["memory"], folders["pids"])
    elif "" in folders:
        group = GroupV2(folders[""])
    else:
        return None
    try:
        group.cpu(), group.memory_bytes(), group.threads(), group.processes()
    except (OSError, KeyError, ValueError):
        return None
    return group


def _mounts(mountinfo: str) -> dict[str, Path]:
    """Controller → where its hierarchy is mounted; that of v2 under "". Format: proc_pid_mountinfo(5)."""
    found = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        # Blanks and the like in a path are written as octal escapes.
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), before.split(" ")[4]))
        if kind == "cgroup2":
            found[""] = point
        elif kind == "cgroup":
            found.update(dict.fromkeys(options.split(","), point))
    return found
