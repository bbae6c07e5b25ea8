"""What a backend is: something that starts processes under a profile, and leaves nothing behind.

The runner sees no more than this. It never assumes that a process shares its host, its clock or its
file system; all it has is the process's standard input, its output, an address, and a collector.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from labs.harness.measure.base import Collector
from labs.harness.model import Profile

EXIT_UNAVAILABLE = 69
"""What a server, a tracer or an experiment exits with where the machine lacks what it requires (EX_UNAVAILABLE)."""

TAIL_LINES = 20
"""How much of a process's stderr is kept for an error message."""


@dataclass(frozen=True)
class Spec:
    """A process to start: Python with `command` as its arguments, from the project's root or from `folder`."""

    role: str
    """"server", "fleet" or "probe": what it is for; labels and names say so."""
    command: tuple[str, ...]
    """For instance ("-m", "servers.multiplexing.select_server", "--port", "0")."""
    profile: Profile
    cpus: tuple[int, ...] = ()
    """CPUs it is confined to; empty: any."""
    descriptors: int | None = None
    """Limit on open descriptors; None: as many as the machine gives."""
    memory_bytes: int = 2 * 2**30
    pids: int = 1024
    """Processes and threads it may have in a container."""
    folder: Path | None = None
    """A folder of the user's to run in (read-only in a container) instead of the project's own code."""
    environment: tuple[tuple[str, str], ...] = ()
    watches: Process | None = None
    """A tracer's target: the process started sees the target's processes, may trace them, and nothing more."""


class Output:
    """A process's output as it arrives, fed by a reader thread: stdout line by line, stderr's last lines."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._partial = {"stdout": b"", "stderr": b""}
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.ended = False

    def feed(self, stream: str, data: bytes) -> None:
        """stream: "stdout" or "stderr"."""
        *whole, self._partial[stream] = (self._partial[stream] + data).split(b"\n")
        for line in whole:
            self._take(stream, line)

    def end(self) -> None:
        """No more will come."""
        for stream, rest in self._partial.items():
            if rest:
                self._take(stream, rest)
        self.ended = True
        self._lines.put(None)

    def _take(self, stream: str, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if stream == "stdout":
            self._lines.put(text)
        else:
            self._tail.append(text)

    def readline(self, timeout: float) -> str | None:
        """The next line of stdout; None at its end. Raises TimeoutError after `timeout` seconds."""
        try:
            line = self._lines.get(timeout=max(timeout, 0))
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            self._lines.put(None)  # the end stays the end
        return line

    def tail(self) -> tuple[str, ...]:
        return tuple(self._tail)


class Process(Protocol):
    """A started process."""

    spec: Spec
    host: str
    """Numeric address at which the run's other processes reach it."""
    output: Output

    def write(self, line: str) -> None:
        """Sends a line to its standard input. Raises MachineError where it no longer reads."""

    def host_pid(self) -> int | None:
        """Its number among this machine's processes; None where they cannot be seen from here."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def collector(self) -> Collector:
        """Measures this process and its descendants."""

    def stop(self) -> None:
        """Ends it at once, descendants included, and forgets it. Never fails; may be called again."""


class Backend(Protocol):
    """Makes the processes of one run. A context manager: leaving it removes all that it made."""

    name: str
    listen_host: str
    """The address that a server is told to listen on."""
    cpus: tuple[int, ...]
    """Numbers of the CPUs that its processes can be confined to: those of the machine that they run on."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def start(self, spec: Spec) -> Process:
        """Starts a process. Raises MachineError where that cannot be done, InputError for a profile it cannot give."""

    def manifest(self) -> dict[str, str]:
        """What a result must record about it: engine version, cgroup version, image digest …"""


@dataclass
class Deadline:
    """A moment after which waiting is over."""

    seconds: float
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self._until = time.monotonic() + self.seconds

    def left(self) -> float:
        return max(0.0, self._until - time.monotonic())
