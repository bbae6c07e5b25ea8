"""Measures a process and its descendants from outside: by /proc on Linux, by psutil elsewhere.

Servers that start a process per connection are why this is more than a sum. On Linux a child's CPU time moves into its
parent's account when the parent waits for it, so that the order of reading decides whether it is lost or counted twice.
Elsewhere there is no such account to be read, and what a child had used when last seen is kept.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from labs.harness.errors import MachineError
from labs.harness.measure import procfs
from labs.harness.measure.base import Collector
from labs.harness.model import Usage

ATTEMPTS = 5
"""Readings of a tree whose processes end while it is read; the last one stands."""


def gone(pid: int) -> MachineError:
    return MachineError(f"process {pid} is gone", "it ended while it was being measured")


class ProcessCollector:
    """Measures the process `pid` and its descendants. Raises MachineError, here and on sample(), when it is gone.

    On Linux: CPU in timer ticks (1 to 10 ms) for what runs at that moment, exact for what sleeps, and rounded down to
    10 ms over all children that have ended; memory as anonymous pages; a look takes 0.1 ms for one process, 0.2 s
    for a thousand. Elsewhere memory is the resident set, shared pages
    included, and CPU time of a child between the last look at it and its end is not seen.
    Context switches of a thread that lived between two looks are not seen anywhere: the figure is a lower bound.
    """

    def __init__(self, pid: int) -> None:
        self._collector: Collector = LinuxProcesses(pid) if sys.platform == "linux" else PsutilProcesses(pid)

    def sample(self) -> Usage:
        return self._collector.sample()


class Ended:
    """Counters of things that come and go, kept growing: what one had when last seen stays in the sum."""

    def __init__(self) -> None:
        self._living: dict[object, tuple[float, float]] = {}
        self._ended = (0.0, 0.0)

    def total(self, seen: dict[object, tuple[float, float]]) -> tuple[float, float]:
        """The sums over all that live (`seen`) and all that ever did."""
        for key, (first, second) in self._living.items():
            if key not in seen:
                self._ended = (self._ended[0] + first, self._ended[1] + second)
        self._living = seen
        return (self._ended[0] + sum(first for first, _ in seen.values()),
                self._ended[1] + sum(second for _, second in seen.values()))


@dataclass
class Gauges:
    """What Linux processes hold at one moment. None: may not be looked at."""

    memory: int | None = 0
    threads: int = 0
    descriptors: int | None = 0


class Looker:
    """Gauges and context switches of Linux processes, given by their ids."""

    def __init__(self) -> None:
        self._switches = Ended()

    def look(self, pids: Sequence[int], memory: bool = True) -> tuple[Gauges, tuple[int, int]]:
        """(gauges, (voluntary, involuntary) switches so far). memory: whether to look at it, which costs the most."""
        gauges = Gauges(memory=0 if memory else None)
        switched: dict[object, tuple[float, float]] = {}
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile: holds nothing
                found = procfs.switches(pid)
                gauges.threads += len(found)
                switched.update({(pid, thread): counts for thread, counts in found.items()})
                if gauges.memory is not None:
                    gauges.memory += procfs.anonymous_bytes(pid, shared=len(pids) > 1) or 0
                if gauges.descriptors is not None:
                    try:
                        gauges.descriptors += procfs.descriptors(pid)
                    except PermissionError:
                        gauges.descriptors = None
        voluntary, involuntary = self._switches.total(switched)
        return gauges, (int(voluntary), int(involuntary))


@dataclass(frozen=True)
class CpuTimes:
    total: float
    user: float
    system: float
    resolution: float


class LinuxProcesses:
    """By /proc."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._looker = Looker()
        self._highest = 0.0
        self._step = procfs.running_step()
        self._children: dict[int, list[int]] = {}
        try:
            self._started = procfs.stat(pid).started
        except OSError:
            raise gone(pid) from None

    def sample(self) -> Usage:
        at = time.monotonic()
        try:
            root = procfs.stat(self.pid)
            if root.state in "ZX" or root.started != self._started:
                raise gone(self.pid)
            for attempt in range(1, ATTEMPTS + 1):
                pids, cpu, complete = self._read_tree()
                if complete or attempt == ATTEMPTS:
                    break
            gauges, (voluntary, involuntary) = self._looker.look(pids)
        except (FileNotFoundError, ProcessLookupError):
            raise gone(self.pid) from None
        self._highest = max(self._highest, cpu.total)  # rounding to ticks at a child's end must not run time backwards
        return Usage(
            at_seconds=at, cpu_seconds=self._highest, cpu_user_seconds=cpu.user, cpu_system_seconds=cpu.system,
            cpu_resolution_seconds=cpu.resolution, memory_bytes=gauges.memory, processes=len(pids),
            threads=gauges.threads, switches_voluntary=voluntary, switches_involuntary=involuntary,
            descriptors=gauges.descriptors, source="/proc")

    def _read_tree(self) -> tuple[list[int], CpuTimes, bool]:
        """All processes, their CPU time, and whether none escaped.

        For each parent: list the children, then read what it has inherited from ended ones, then the children's own
        clocks. A child waited for before the second step is in the inheritance and its clock can not be read; one
        waited for after the third has been counted by its clock. Only between the two does one escape, and that shows.
        """
        complete, inherited = True, 0
        user = system = 0
        total = procfs.cpu_clock(self.pid)
        found = [self.pid]
        for pid in found:  # grows meanwhile
            try:
                threads = procfs.stat(pid).threads
                candidates = procfs.children(pid, threads)
                candidates += self._overlooked(pid, candidates)
                stat = procfs.stat(pid)
            except (FileNotFoundError, ProcessLookupError):
                if pid == self.pid:
                    raise
                continue  # its own clock has been read
            self._children[pid] = candidates
            inherited += stat.children
            user += stat.user + stat.children_user
            system += stat.system + stat.children_system
            for child in candidates:
                try:
                    total += procfs.cpu_clock(child)
                    found.append(child)
                except OSError:
                    complete = False
        self._children = {pid: self._children.get(pid, []) for pid in found}
        tick = procfs.TICK_SECONDS
        cpu = CpuTimes(total + inherited * tick, user * tick, system * tick, tick if inherited else self._step)
        return found, cpu, complete

    def _overlooked(self, pid: int, listed: list[int]) -> list[int]:
        """Children known from the last look that the kernel's list left out, as it may while others end (proc(5))."""
        living = []
        for child in set(self._children.get(pid, ())).difference(listed):
            with contextlib.suppress(OSError):
                if procfs.stat(child).parent == pid:
                    living.append(child)
        return living


def open_descriptors(process: psutil.Process) -> int:
    """Descriptors, or on Windows handles: of files, sockets, threads and more."""
    if sys.platform == "win32":
        return process.num_handles()
    return process.num_fds()


class PsutilProcesses:
    """By psutil, for the systems that have no /proc."""

    def __init__(self, pid: int) -> None:
        self._cpu, self._switches = Ended(), Ended()
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise gone(pid) from None

    def sample(self) -> Usage:
        at = time.monotonic()
        try:
            if not self._root.is_running() or self._root.status() == psutil.STATUS_ZOMBIE:
                raise gone(self._root.pid)
            tree = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            raise gone(self._root.pid) from None
        cpu: dict[object, tuple[float, float]] = {}
        switched: dict[object, tuple[float, float]] = {}
        memory = threads = 0
        descriptors: int | None = 0
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                key = (process.pid, process.create_time())
                times, switches = process.cpu_times(), process.num_ctx_switches()
                cpu[key] = (times.user, times.system)
                switched[key] = (switches.voluntary, switches.involuntary)
                memory += process.memory_info().rss
                threads += process.num_threads()
                if descriptors is not None:
                    try:
                        descriptors += open_descriptors(process)
                    except psutil.AccessDenied:
                        descriptors = None
        user, system = self._cpu.total(cpu)
        voluntary, involuntary = self._switches.total(switched)
        return Usage(
            at_seconds=at, cpu_seconds=user + system, cpu_user_seconds=user, cpu_system_seconds=system,
            # GetProcessTimes advances with the clock interrupt; macOS and the BSDs count microseconds.
            cpu_resolution_seconds=1 / 64 if sys.platform == "win32" else 1e-6, memory_bytes=memory,
            processes=len(cpu), threads=threads, switches_voluntary=int(voluntary),
            switches_involuntary=int(involuntary), descriptors=descriptors, source="psutil")
