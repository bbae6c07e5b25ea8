"""The collector of native processes, against processes whose use is known."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labs.harness.errors import MachineError
from labs.harness.measure.processes import LinuxProcesses, ProcessCollector, PsutilProcesses

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

PUPPET = """
import json, os, sys, threading, time

def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return time.process_time()

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

kept = []
for line in sys.stdin:
    names = globals()
    *statements, last = json.loads(line)
    for statement in statements:
        exec(statement, names)
    print(json.dumps(eval(last, names)), flush=True)
"""


class Puppet:
    """A Python process that does as it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PUPPET], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.does("None")

    def does(self, *code: str) -> Any:
        """Runs statements and then one expression there; returns its value."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps([textwrap.dedent(part) for part in code]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    puppet = Puppet()
    yield puppet
    puppet.end()


@pytest.fixture(params=[ProcessCollector, PsutilProcesses])
def kind(request: pytest.FixtureRequest) -> Any:
    """Both ways of looking, on every system that has both."""
    return request.param


def test_cpu_time_is_what_the_process_itself_says(puppet: Puppet, kind: Any) -> None:
    collector = kind(puppet.pid)
    start, before = puppet.does("time.process_time()"), collector.sample()
    used = puppet.does("burn(0.3)") - start
    after = collector.sample()
    assert after.cpu_seconds - before.cpu_seconds == pytest.approx(used, abs=3 * after.cpu_resolution_seconds + 0.02)
    assert after.at_seconds > before.at_seconds
    assert after.cpu_user_seconds + after.cpu_system_seconds == pytest.approx(after.cpu_seconds, abs=0.05)


def test_a_sleeping_process_uses_nothing(puppet: Puppet) -> None:
    collector = ProcessCollector(puppet.pid)
    before = collector.sample()
    time.sleep(0.2)
    assert collector.sample().cpu_seconds - before.cpu_seconds <= before.cpu_resolution_seconds


def test_memory_grows_with_what_is_allocated(puppet: Puppet, kind: Any) -> None:
    collector = kind(puppet.pid)
    before = collector.sample()
    puppet.does("block = bytearray(os.urandom(1)) * 50_000_000", "None")
    assert collector.sample().memory_bytes - before.memory_bytes == pytest.approx(50e6, rel=0.1)


def test_threads_and_descriptors_are_counted(puppet: Puppet, kind: Any) -> None:
    collector = kind(puppet.pid)
    before = collector.sample()
    puppet.does("kept += [open(os.devnull) for _ in range(20)]",
                "stop = threading.Event()",
                "for _ in range(7): threading.Thread(target=stop.wait, daemon=True).start()", "None")
    after = collector.sample()
    assert after.threads - before.threads == 7
    if sys.platform == "win32":
        assert after.descriptors - before.descriptors >= 20  # threads and events are handles, too
    else:
        assert after.descriptors - before.descriptors == 20


@linux_only
def test_context_switches_of_all_threads_are_counted_and_never_lost(puppet: Puppet) -> None:
    collector = ProcessCollector(puppet.pid)
    puppet.does("stop = threading.Event()", "naps = lambda: [time.sleep(0.001) for _ in range(100)] and stop.wait()",
                "threads = [threading.Thread(target=naps) for _ in range(4)]",
                "for thread in threads: thread.start()", "time.sleep(0.5)", "None")
    during: Any = collector.sample()
    assert during.switches_voluntary >= 400
    puppet.does("stop.set()", "for thread in threads: thread.join()", "None")
    after: Any = collector.sample()
    assert after.threads == 1
    assert after.switches_voluntary >= during.switches_voluntary


@needs_fork
def test_living_children_are_counted(puppet: Puppet, kind: Any) -> None:
    collector = kind(puppet.pid)
    before = collector.sample()
    puppet.does("import signal", "kept += [child(signal.pause) for _ in range(5)]", "None")
    after = collector.sample()
    assert (before.processes, after.processes) == (1, 6)
    puppet.does("for pid in kept: os.kill(pid, 9)", "for pid in kept: os.waitpid(pid, 0)", "None")
    assert collector.sample().processes == 1


@linux_only
def test_memory_shared_by_fork_counts_once(puppet: Puppet) -> None:
    collector = ProcessCollector(puppet.pid)
    puppet.does("import signal", "block = bytearray(b'x') * 50_000_000", "None")
    alone: Any = collector.sample().memory_bytes
    puppet.does("kept += [child(signal.pause) for _ in range(8)]", "None")
    family: Any = collector.sample().memory_bytes
    puppet.does("for pid in kept: os.kill(pid, 9)", "None")
    assert alone >= 50e6
    assert family < 1.5 * alone  # nine times, if every process's pages were summed up


@linux_only
def test_children_that_have_ended_stay_in_the_account(puppet: Puppet) -> None:
    collector = ProcessCollector(puppet.pid)
    before = collector.sample().cpu_seconds
    puppet.does("for _ in range(10): os.waitpid(child(lambda: burn(0.03)), 0)", "None")
    after = collector.sample()
    assert after.cpu_seconds - before == pytest.approx(0.3, rel=0.25)
    assert after.processes == 1
    assert after.cpu_resolution_seconds == 0.01


@linux_only
def test_children_that_come_and_go_are_neither_lost_nor_counted_twice(puppet: Puppet) -> None:
    """Looks all the time while 200 children live and die; no look may fall behind or run ahead of what there was."""
    collector = LinuxProcesses(puppet.pid)
    start = collector.sample().cpu_seconds
    puppet.does("""
        def breed():
            for _ in range(50):
                pids = [child(lambda: burn(0.005)) for _ in range(4)]
                for pid in pids: os.waitpid(pid, 0)
        """, "breeder = threading.Thread(target=breed)", "breeder.start()", "None")
    looks, last = 0, start
    while puppet.does("breeder.is_alive()"):
        seen = collector.sample().cpu_seconds
        assert seen >= last
        last, looks = seen, looks + 1
    exact = puppet.does("import resource", "sum(sum(resource.getrusage(who)[:2]) "
                        "for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))")
    end = collector.sample().cpu_seconds
    assert looks > 20
    assert exact > 1
    # A child of 5 ms counted twice would push a look, and with it the end, above the truth.
    assert max(last, end) <= exact + 0.004
    assert end == pytest.approx(exact, abs=0.03)


def test_a_process_that_has_ended_is_an_error(puppet: Puppet, kind: Any) -> None:
    collector = kind(puppet.pid)
    collector.sample()
    puppet.process.kill()
    deadline = time.monotonic() + 5
    with pytest.raises(MachineError, match="gone"):  # a zombie until it is waited for, and gone as well
        while time.monotonic() < deadline:
            collector.sample()
    puppet.process.wait()
    with pytest.raises(MachineError, match="gone"):
        collector.sample()
    with pytest.raises(MachineError, match="gone"):
        kind(puppet.pid)


@linux_only
def test_a_look_is_quick_and_bounded(puppet: Puppet) -> None:
    """Counted in CPU time of this process, which other work on the machine does not lengthen."""
    collector = ProcessCollector(puppet.pid)

    def cost(looks: int) -> float:
        start = time.process_time()
        for _ in range(looks):
            collector.sample()
        return (time.process_time() - start) / looks

    assert cost(50) < 0.002
    puppet.does("import signal", "kept += [child(signal.pause) for _ in range(300)]", "None")
    assert collector.sample().processes == 301
    assert cost(3) < 0.5
    puppet.does("for pid in kept: os.kill(pid, 9)", "for pid in kept: os.waitpid(pid, 0)", "None")
