"""How much of the trial's CPUs something else was using, which is what makes a timing worthless.

Busy is what was not idle. The times by kind (user, system …) are estimated at timer ticks and miss much of a server's
many short runs: on a kernel with HZ=250 a loopback echo that used 1.69 s of CPU time showed up as 1.20 s, 0.66 s of it
as "softirq". Idle time is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class Busy:
    """CPU seconds spent so far on `cpus` CPUs by anybody, the hypervisor included; only differences mean something.

    at_seconds: when it was read, on the monotonic clock.
    """

    at_seconds: float
    busy_seconds: float
    cpus: int


def foreign_share(before: Busy, after: Busy, own_seconds: float) -> float:
    """Share of the CPUs' time that was used, but not by us, in 0..1.

    own_seconds: CPU time of server and fleets between the two moments. Idle time is published in steps of 10 ms per CPU
    on Linux (15.6 ms on Windows), so that a window of 0.25 s is told to about 4 %.
    """
    available = (after.at_seconds - before.at_seconds) * before.cpus
    if available <= 0:
        return 0.0
    return min(1.0, max(0.0, (after.busy_seconds - before.busy_seconds - own_seconds) / available))


def unused_seconds(cpu: Any, interrupts_apart: bool) -> float:
    """What of one CPU's time (a row of psutil.cpu_times) nobody used, and what no process is charged with.

    interrupts_apart: whether interrupts, and with them the network's part of our own work, are left out of the CPU
    time of the processes they interrupt.
    """
    unused = cpu.idle + getattr(cpu, "iowait", 0.0)
    if interrupts_apart:
        unused += sum(getattr(cpu, kind, 0.0) for kind in ("irq", "softirq", "interrupt", "dpc"))
    return unused


class CpuWatch:
    """Reads how long the given CPUs of this machine have been busy; all of its CPUs, if none are given.

    Numbers of CPUs that this machine has not are passed over. Meaningless for servers that run on another machine or
    in a virtual one: don't watch there.
    """

    foreign_share = staticmethod(foreign_share)

    def __init__(self, cpus: Sequence[int] = ()) -> None:
        self.cpus = tuple(cpus)

    def sample(self) -> Busy:
        at = time.monotonic()
        times = psutil.cpu_times(percpu=True)
        chosen = [times[cpu] for cpu in self.cpus if cpu < len(times)] if self.cpus else times
        # A kernel that keeps interrupts apart (Linux with IRQ_TIME_ACCOUNTING, Windows) shows time for hard ones. One
        # that does not looks around at timer interrupts only, which never interrupt another: exactly 0.
        apart = any(getattr(cpu, "irq", 0.0) + getattr(cpu, "interrupt", 0.0) > 0 for cpu in times)
        return Busy(at, at * len(chosen) - sum(unused_seconds(cpu, apart) for cpu in chosen), len(chosen))
