"""System calls by strace: its lines taken apart, and a tracer attached to a server from outside.

Source of the line formats: strace(1), and strace 6.1's own output.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from labs.harness.deploy.base import Backend, Deadline, Process, Spec
from labs.harness.errors import MachineError, Unavailable
from labs.harness.measure.calls import Call, Counts, counted

PATIENCE_SECONDS = 30.0

SOURCE = "strace"
DISTURBANCE = ("strace stops the server at both ends of every call: the counts of blocking and of the bare pollers "
               "stay exact, but loops that poll again while there is nothing to do (asyncio's streams, busy polling) "
               "make fewer calls than undisturbed, and threads that compete for Python's lock many more (futex)")

LINE = re.compile(r"(?P<thread>\d+) +(?P<at>\d+\.\d+) (?P<rest>.*)")
RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
CALL = re.compile(r"(?P<name>\w+)\((?P<rest>.*)")
OUTCOME = re.compile(r"(?P<arguments>.*)\) += (?P<result>.*?)(?: <(?P<seconds>\d+\.\d+)>)?")
UNFINISHED, DETACHED = "<unfinished ...>", "<detached ...>"
ERROR = re.compile(r"(?:-1|\?) (?P<error>E[A-Z0-9_]+)")


def parse(lines: Iterable[str]) -> Iterator[Call]:
    """The calls that `strace -f -ttt -T -o` wrote, in the order in which they ended.

    Signals, exits and what is no line of strace are passed over. A call in which its thread ended, or which was under
    way at the end, comes with seconds None.
    """
    begun: dict[int, tuple[float, str, str]] = {}
    latest: dict[int, str] = {}  # by thread: what its restart_syscall goes on with; strace may only guess
    for line in lines:
        found = LINE.fullmatch(line)
        if not found:
            continue
        thread, at, rest = int(found["thread"]), float(found["at"]), found["rest"]
        if rest.startswith(("+++", "---")):
            if rest.startswith("+++") and thread in begun:
                yield _unreturned(thread, *begun.pop(thread))
            continue
        if resumed := RESUMED.fullmatch(rest):
            # Without its beginning: strace was attached in between.
            started, name, first = begun.pop(thread, (at, resumed["name"], ""))
            text = first + resumed["rest"]
        elif call := CALL.fullmatch(rest):
            started, text = at, call["rest"]
            name = latest.get(thread, call["name"]) if call["name"] == "restart_syscall" else call["name"]
            latest[thread] = name
        else:
            continue
        for mark in (UNFINISHED, DETACHED):
            if text.endswith(mark):
                begun[thread] = (started, name, text.removesuffix(mark).rstrip())
                break
        else:
            yield _returned(thread, started, name, text)
    for thread, beginning in begun.items():
        yield _unreturned(thread, *beginning)


def _returned(thread: int, at: float, name: str, text: str) -> Call:
    found = OUTCOME.fullmatch(text)
    if not found:
        return _unreturned(thread, at, name, text)
    error = ERROR.match(found["result"])
    seconds = float(found["seconds"]) if found["seconds"] else None
    return Call(at, seconds, thread, name, found["arguments"], found["result"], error["error"] if error else "")


def _unreturned(thread: int, at: float, name: str, text: str) -> Call:
    return Call(at, None, thread, name, text, "?")


class Tracer:
    """strace, attached to a server."""

    def __init__(self, process: Process, threads: dict[int, int]) -> None:
        self.threads = threads
        """Thread → process, of those that there were when it was attached."""
        self._process, self._lines = process, list[str]()
        self._calls: list[Call] | None = None
        self.detached_seconds = 0.0
        """When the server was let go, since the epoch."""

    def mark(self) -> float:
        """This moment, in epoch seconds, by the clock of the calls."""
        self._process.write("mark")
        return float(self._await("MARK "))

    def detach(self) -> list[Call]:
        """Lets the server go; all calls since the attachment, by time. May be called again."""
        if self._calls is None:
            self._process.write("detach")
            self.detached_seconds = float(self._await("DETACHED "))
            self._calls = sorted(parse(self._lines), key=lambda call: call.at_seconds)
            self._lines.clear()
        return self._calls

    def _await(self, word: str) -> str:
        deadline = Deadline(PATIENCE_SECONDS)
        while True:
            try:
                line = self._process.output.readline(deadline.left())
            except TimeoutError:
                raise MachineError(f"strace did not answer within {deadline.seconds:g} s",
                                   _last(self._process)) from None
            if line is None:
                raise MachineError("strace ended unexpectedly", _last(self._process))
            if line.startswith(word):
                return line.removeprefix(word)
            self._lines.append(line)


@contextmanager
def attach(backend: Backend, server: Process, *options: str) -> Iterator[Tracer]:
    """strace attached to `server`, all its processes and threads and those to come, until the end of the block.

    options: strace's own, for instance "-e", "trace=network". Raises MachineError, with the mend, where that cannot be.
    """
    if backend.name == "native" and sys.platform != "linux":
        raise Unavailable("system calls cannot be traced natively", f"strace is for Linux, this is {sys.platform}",
                           "--on docker: the servers then run on Linux")
    root = str(getattr(server, "pid", 1))  # a container has a namespace of its own, in which its first process is 1
    command = ("-m", "images.tracer.attach", "--root", root, *options)
    process = backend.start(Spec("tracer", command, "linux", watches=server))
    try:
        yield Tracer(process, _attached(backend, process))
    finally:
        process.stop()


def _attached(backend: Backend, process: Process) -> dict[int, int]:
    deadline = Deadline(PATIENCE_SECONDS)
    try:
        line = process.output.readline(deadline.left())
    except TimeoutError:
        raise MachineError(f"strace was not attached within {deadline.seconds:g} s", _last(process)) from None
    if line is None or not line.startswith("ATTACHED "):
        raise Unavailable("strace cannot be attached to the server", _last(process) or str(line),
                           _mend(backend, process))
    pairs = (pair.split(":") for pair in line.split()[2:])
    return {int(thread): int(pid) for thread, pid in pairs}


def _mend(backend: Backend, process: Process) -> str:
    missing = "not installed" in _last(process)
    if backend.name == "native":
        return "install strace, or use --on docker" if missing else (
            "sudo sysctl -w kernel.yama.ptrace_scope=0, or run as root, or use --on docker")
    return "install strace on this machine, then invoke image.build --force" if missing else (
        "an engine on Linux 4.8 or later that lets a container trace another: see invoke doctor")


def _last(process: Process) -> str:
    return "\n".join(process.output.tail())


class StraceCounter:
    """CallCounter by strace."""

    source, disturbance = SOURCE, DISTURBANCE

    def __init__(self, tracer: Tracer) -> None:
        self._tracer, self._begin = tracer, 0.0

    def begin(self) -> None:
        self._begin = self._tracer.mark()

    def end(self) -> Counts:
        end = self._tracer.mark()
        return Counts(counted(self._tracer.detach(), self._begin, end), end - self._begin, SOURCE, DISTURBANCE)


@contextmanager
def count(backend: Backend, server: Process) -> Iterator[StraceCounter]:
    """A counter by strace. Raises MachineError as `attach` does."""
    with attach(backend, server) as tracer:
        yield StraceCounter(tracer)
