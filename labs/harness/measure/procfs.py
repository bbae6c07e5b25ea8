"""Linux's /proc, as far as collectors need it. Formats: proc(5), proc_pid_stat(5), clock_getcpuclockid(3).

Everything here takes process ids of this machine's own namespace and raises OSError where a process is gone or may not
be looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
"""The unit of times in /proc/<pid>/stat; the kernel keeps nanoseconds and rounds them down here."""

def running_step() -> float:
    """Seconds by which the CPU account of a running process advances: the kernel's timer tick.

    Accounts are in nanoseconds, but while a process runs, others see them move only at ticks and switches
    (measured: steps of 4.0 ms at HZ=250). The coarse clock's resolution is that tick (clock_getres(2)).
    """
    try:
        return time.clock_getres(6)  # CLOCK_MONOTONIC_COARSE, which Python has no name for
    except OSError:
        return TICK_SECONDS


FEW_THREADS = 32
"""Up to so many threads it is cheaper to ask each for its children than to look at all processes."""


def read(path: str) -> bytes:
    """The whole of a small file in /proc."""
    file = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while more := os.read(file, 65536):  # the kernel gives a page at a time, whatever one asks for
            data += more
        return data
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Stat:
    """Of /proc/<pid>/stat. Times in ticks; those of children are of children already waited for, with theirs."""

    state: str
    parent: int
    user: int
    system: int
    children_user: int
    children_system: int
    threads: int
    started: int
    """Ticks after boot; with the process id it names a process for good, since ids are used again."""

    @property
    def children(self) -> int:
        return self.children_user + self.children_system


def numbers(folder: str) -> list[int]:
    """The entries of a folder that are numbers: processes, threads, descriptors."""
    with os.scandir(folder) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdecimal()]


def stat(pid: int) -> Stat:
    # The second field is the program's name, which may itself contain blanks and brackets.
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return Stat(fields[0].decode(), int(fields[1]), user, system, children_user, children_system,
                int(fields[17]), int(fields[19]))


def cpu_clock(pid: int) -> float:
    """CPU seconds of all threads of a process, past and present; see running_step(). Also for a zombie."""
    return time.clock_gettime((~pid << 3) | 2)


def parents() -> dict[int, int]:
    """Of every process on the machine."""
    found = {}
    for pid in numbers("/proc"):
        try:
            found[pid] = stat(pid).parent
        except OSError:
            continue  # ended meanwhile
    return found


def children(pid: int, threads: int) -> list[int]:
    """Process ids of the children of all threads, zombies included. threads: about how many the process has."""
    if threads <= FEW_THREADS:
        try:
            return [int(child) for thread in numbers(f"/proc/{pid}/task")
                    for child in read(f"/proc/{pid}/task/{thread}/children").split()]
        except FileNotFoundError:
            pass  # a thread has just ended, or a kernel without CONFIG_PROC_CHILDREN
    return [child for child, parent in parents().items() if parent == pid]


def fields(path: str, names: Iterable[bytes]) -> dict[bytes, int]:
    """Numbers from a file of lines such as "Threads:  1" or "RssAnon:  5 kB", units left off."""
    wanted, found = set(names), {}
    for line in read(path).split(b"\n"):
        name, _, rest = line.partition(b":")
        if name in wanted:
            found[name] = int(rest.split()[0])
    return found


def numbers_in(path: Path, names: Iterable[str]) -> dict[str, int]:
    """As `fields`, of lines such as "anon 4096"."""
    wanted = set(names)
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in wanted}


def anonymous_bytes(pid: int, shared: bool) -> int | None:
    """Anonymous resident memory; with `shared` a page that n processes share by fork counts as 1/n of a page.

    The exact figure (Pss_Anon, Linux 5.9 and later) walks the page tables: 0.1 ms for a small Python process against
    0.015 ms for RssAnon.
    """
    if shared:
        try:
            if (found := fields(f"/proc/{pid}/smaps_rollup", [b"Pss_Anon"])):
                return found[b"Pss_Anon"] * 1024
        except PermissionError:
            pass
    anonymous = fields(f"/proc/{pid}/status", [b"RssAnon"])  # a zombie has none
    return anonymous[b"RssAnon"] * 1024 if anonymous else None


def switches(pid: int) -> dict[int, tuple[int, int]]:
    """Context switches (voluntary, involuntary) of each living thread."""
    found = {}
    for thread in numbers(f"/proc/{pid}/task"):
        try:
            counted = fields(f"/proc/{pid}/task/{thread}/status",
                             [b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches"])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if len(counted) == 2:
            found[thread] = (counted[b"voluntary_ctxt_switches"], counted[b"nonvoluntary_ctxt_switches"])
    return found


def descriptors(pid: int) -> int:
    """Open descriptors. Raises PermissionError for another user's process."""
    # Since Linux 6.2 the folder's size is their number, which saves listing 10,000 of them.
    folder = f"/proc/{pid}/fd"
    return Path(folder).stat().st_size or len(numbers(folder))
