"""Foreign work: the arithmetic, and one look at this machine."""

import sys
import time
from types import SimpleNamespace

import pytest

from labs.harness.measure.foreign import Busy, CpuWatch, foreign_share, unused_seconds


def test_what_was_busy_and_not_ours_is_foreign() -> None:
    before, after = Busy(100.0, 50.0, 2), Busy(101.0, 51.5, 2)
    assert foreign_share(before, after, 1.0) == pytest.approx(0.25)
    assert foreign_share(before, after, 1.5) == 0
    assert foreign_share(before, after, 1.9) == 0  # rounding must not make it negative


def test_a_share_stays_within_bounds() -> None:
    assert foreign_share(Busy(0, 0, 1), Busy(1, 5, 1), 0) == 1
    assert foreign_share(Busy(1, 0, 1), Busy(1, 5, 1), 0) == 0  # no time
    assert foreign_share(Busy(0, 0, 0), Busy(1, 0, 0), 0) == 0  # no CPU


def test_interrupts_count_where_processes_are_charged_with_them() -> None:
    linux = SimpleNamespace(idle=10.0, iowait=1.0, irq=2.0, softirq=3.0)
    assert unused_seconds(linux, interrupts_apart=False) == 11
    assert unused_seconds(linux, interrupts_apart=True) == 16
    windows = SimpleNamespace(idle=10.0, interrupt=2.0, dpc=3.0)
    assert unused_seconds(windows, interrupts_apart=True) == 15
    assert unused_seconds(SimpleNamespace(idle=10.0), interrupts_apart=True) == 10  # macOS tells no more


def test_a_cpu_that_the_machine_has_not_is_passed_over() -> None:
    assert CpuWatch([100_000]).sample().cpus == 0


@pytest.mark.skipif(sys.platform != "linux", reason="pins this thread to a CPU")
def test_work_of_ours_on_a_cpu_is_seen_and_taken_off() -> None:
    import os

    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    watch = CpuWatch([cpu])
    os.sched_setaffinity(0, {cpu})
    try:
        before, own = watch.sample(), time.thread_time()
        until = own + 0.3
        while time.thread_time() < until:
            pass
        after, own = watch.sample(), time.thread_time() - own
    finally:
        os.sched_setaffinity(0, allowed)
    busy = after.busy_seconds - before.busy_seconds
    assert busy >= 0.25  # others on that CPU only add to it
    assert foreign_share(before, after, 0) - foreign_share(before, after, own) == pytest.approx(
        own / (after.at_seconds - before.at_seconds), abs=0.1)
