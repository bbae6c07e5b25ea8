"""System calls counted inside the kernel, by perf on the tracepoints of the single calls.

No event passes through a buffer, so none can be lost, and the server is never stopped. Needs root, perf, and the
server's processes on this machine: natively, or in containers of a local engine.

Sources: perf-stat(1) for --control and --delay; Documentation/trace/events.rst of Linux.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from labs.harness.deploy.base import Process
from labs.harness.errors import MachineError
from labs.harness.measure.calls import Counts

SOURCE = "perf"
# Measured with epoll at one connection, 3 calls a request: server CPU 38 µs a request alone, 53 by perf, 168 by strace.
DISTURBANCE = ("perf adds some 5 µs of CPU to a call (strace 40 and more) and never stops the server: loops that poll "
               "again while there is nothing to do make slightly fewer calls than undisturbed")
ALL = "raw_syscalls:sys_enter"
OTHER = "other"
"""Name of the calls that have no counter of their own."""

TRACEPOINTS = Path("/sys/kernel/tracing/events/syscalls")
NAMES = ("epoll_wait", "futex", "io_uring_enter", "mmap", "poll", "pselect6", "recvfrom", "sendto")
"""Calls that get a counter of their own; all the rest are OTHER. A counter takes perf 55 ms to set up and put away."""

MOST_COUNTERS = 12_000
"""perf opens a descriptor per counter and thread, and many systems give it 20,000 at the most."""
PATIENCE_SECONDS = 20.0
CANNOT = "perf cannot count the server's calls"


class PerfCounter:
    """CallCounter by perf stat, which is ready and counts nothing yet."""

    source, disturbance = SOURCE, DISTURBANCE

    def __init__(self, process: subprocess.Popen[str], control: int, answers: int) -> None:
        self._process, self._control, self._answers = process, control, answers
        self._begin = 0.0
        self._tell("ping")

    def begin(self) -> None:
        self._tell("enable")
        self._begin = time.monotonic()

    def end(self) -> Counts:
        seconds = time.monotonic() - self._begin
        self._tell("disable")
        self._process.send_signal(signal.SIGINT)
        try:
            _, said = self._process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise MachineError(CANNOT, f"it did not end within {PATIENCE_SECONDS:g} s") from None
        return Counts(read(said), seconds, SOURCE, DISTURBANCE)

    def _tell(self, order: str) -> None:
        """Gives perf an order and waits until it says that it is done."""
        os.write(self._control, order.encode() + b"\n")
        until, said = time.monotonic() + PATIENCE_SECONDS, b""
        while b"ack\n" not in said:
            ready, _, _ = select.select([self._answers], [], [], 0.1)
            if ready:
                said += os.read(self._answers, 64)
            elif self._process.poll() is not None:
                raise MachineError(CANNOT, (self._process.communicate()[1] or "it ended").strip()[-500:])
            elif time.monotonic() > until:
                raise MachineError(CANNOT, f"no answer to '{order}' within {PATIENCE_SECONDS:g} s")


def read(said: str) -> dict[str, int]:
    """Calls by name, the most frequent first, from what `perf stat -x,` wrote; those never made are left out.

    Raises MachineError where a counter could not count.
    """
    found, total = {}, None
    for line in said.splitlines():
        fields = line.split(",")
        if len(fields) < 5 or ":sys_enter" not in fields[2]:
            continue
        # perf says so of a counter whose threads never ran in the window: an idle server's
        figure = "0" if fields[0] == "<not counted>" else fields[0]
        if not figure.isdigit():
            raise MachineError(CANNOT, f"{fields[2]}: {figure}")
        if fields[2] == ALL:
            total = int(figure)
        elif count := int(figure):
            found[fields[2].rpartition(":sys_enter_")[2]] = count
    if total is None:
        raise MachineError(CANNOT, said.strip()[-500:] or "it said nothing")
    if other := total - sum(found.values()):
        found[OTHER] = other
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@contextmanager
def attach(server: Process) -> Iterator[PerfCounter]:
    """A counter on all of the server's processes and threads, and those to come, until the end of the block.

    Raises MachineError, saying what is missing, where perf cannot be used.
    """
    program = shutil.which("perf")
    if sys.platform != "linux" or not program:
        raise MachineError(CANNOT, "it is not installed" if sys.platform == "linux" else "it is for Linux")
    pids, threads = _family(server)
    if not TRACEPOINTS.exists():  # asked for a tracepoint, perf mounts their file system, if it may
        subprocess.run([program, "stat", "-e", ALL, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        events = [f"syscalls:sys_enter_{name}" for name in NAMES if (TRACEPOINTS / f"sys_enter_{name}").exists()]
    except OSError:
        events = []
    if not events:
        raise MachineError(CANNOT, f"{TRACEPOINTS} is not to be read", "run as root, with tracefs mounted")
    if len(events) * threads > MOST_COUNTERS:
        raise MachineError(CANNOT, f"{threads} threads with {len(events)} counters each are too many")
    with contextlib.ExitStack() as stack:
        orders, control = _pipe(stack)
        answers, done = _pipe(stack)
        process = subprocess.Popen(
            [program, "stat", "-x,", "--delay=-1", f"--control=fd:{orders},{done}", "-e", ",".join([ALL, *events]),
             "-p", ",".join(map(str, pids))],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            pass_fds=(orders, done), start_new_session=True, env={**os.environ, "LC_ALL": "C"})
        try:
            yield PerfCounter(process, control, answers)
        finally:
            process.kill()
            process.communicate()


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    """(end to read, end to write), closed with `stack`."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def _family(server: Process) -> tuple[list[int], int]:
    """The server's processes on this machine, and how many threads they have together."""
    root = server.host_pid()
    if root is None:
        raise MachineError(CANNOT, "the engine's processes are not on this machine")
    try:
        first = psutil.Process(root)
        family = [first, *first.children(recursive=True)]
        return [process.pid for process in family], sum(process.num_threads() for process in family)
    except psutil.Error as error:
        raise MachineError(CANNOT, f"the server's processes are not to be seen: {error}") from None
