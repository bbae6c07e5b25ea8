"""What each thread of a server did, and what each client saw, laid on one axis: built from calls and events. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labs.harness.measure.calls import Call
from labs.harness.measure.strace import DISTURBANCE

AT_ONCE_US = 300
"""A call that took no longer found what it asked for: under strace even the quickest takes some 100 µs."""

State = Literal["waiting", "copying", "asking", "in vain", "calling", "running"]
"""waiting: in a call, for something to happen. copying: bytes between kernel and program. asking: a poller that
answered at once. in vain: a call that found nothing. calling: any other call. running: between two calls."""

POLLERS = {"select", "pselect6", "poll", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2"}
INPUT = {"recvfrom", "recvmsg", "recvmmsg", "read", "readv", "recv"}
OUTPUT = {"sendto", "sendmsg", "sendmmsg", "write", "writev", "send", "sendfile"}
ACCEPTS = {"accept", "accept4"}
FORKS = {"clone", "clone3", "fork", "vfork"}


@dataclass(frozen=True)
class Span:
    """What a thread did for a while. Microseconds from the script's start."""

    start_us: int
    end_us: int
    state: State
    call: str = ""
    client: int | None = None
    """Whose connection the call was about, where it was about one."""
    moved: int = 0
    """Bytes copied to or from the connection, at the end of the span if it was a wait."""


@dataclass(frozen=True)
class Thread:
    id: int
    process: int
    spans: tuple[Span, ...]

    @property
    def idle(self) -> bool:
        """Whether it did nothing but wait for its first client."""
        return all(span.state == "waiting" and not span.moved for span in self.spans)


@dataclass(frozen=True)
class Ask:
    asked_us: int
    answered_us: int | None
    """None: not while the script ran."""


@dataclass(frozen=True)
class Client:
    number: int
    connected_us: int
    left_us: int
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Timeline:
    """What happened in one server model while the script was played to it."""

    model: str
    backend: str
    length_us: int
    threads: tuple[Thread, ...]
    clients: tuple[Client, ...]
    calls: dict[str, int]
    """System calls by name that ended while the script ran."""
    clock: str
    profile: str
    disturbance: str = DISTURBANCE


# --- from calls to states --------------------------------------------------------------------------------------------


def build(model: str, backend: str, calls: Sequence[Call], threads: dict[int, int],
          events: Sequence[dict[str, Any]], profile: str) -> Timeline:
    """Lays the calls and the clients' events on one axis, which begins at the script's start. Pure."""
    start = next(event["at"] for event in events if event["event"] == "start")
    end = next(event["at"] for event in events if event["event"] == "end")
    ports = {event["port"]: event["client"] for event in events if event["event"] == "connected"}
    whose = _owners(calls, threads, ports)
    processes = _processes(calls, threads)
    by_thread: dict[int, list[tuple[Call, int | None]]] = {thread: [] for thread in threads}
    for call, client in zip(calls, whose, strict=True):
        by_thread.setdefault(call.thread, []).append((call, client))
    lanes = tuple(Thread(thread, processes.get(thread, thread), tuple(_spans(own, start, end)))
                  for thread, own in sorted(by_thread.items()))
    counts: dict[str, int] = {}
    for call in calls:
        if call.ended_seconds is not None and start < call.ended_seconds <= end:
            counts[call.name] = counts.get(call.name, 0) + 1
    return Timeline(
        model, backend, round((end - start) * 1e6), tuple(lane for lane in lanes if lane.spans),
        tuple(_clients(events, start, end)), dict(sorted(counts.items(), key=lambda item: -item[1])),
        "server and clients run under one kernel and share its clock", profile)


def _processes(calls: Iterable[Call], threads: dict[int, int]) -> dict[int, int]:
    """Thread → process, also of those that were started while strace watched."""
    found = dict(threads)
    for call in calls:
        if call.name in FORKS and (child := call.value) and child > 0:
            found[child] = found.get(call.thread, call.thread) if "CLONE_THREAD" in call.arguments else child
    return found


def _owners(calls: Sequence[Call], threads: dict[int, int], ports: dict[int, int]) -> list[int | None]:
    """The client whom each call is about, by the descriptors that accept gave; None for no single one."""
    processes = _processes(calls, threads)
    tables: dict[int, dict[int, int]] = {}  # process → descriptor → client
    found: dict[int, int | None] = {}
    # A descriptor is there from the end of accept on, and gone from the start of close on.
    moments = sorted(range(len(calls)), key=lambda place: (
        (calls[place].ended_seconds or calls[place].at_seconds)
        if calls[place].name in ACCEPTS | FORKS else calls[place].at_seconds))
    for place in moments:
        call = calls[place]
        table = tables.setdefault(processes.get(call.thread, call.thread), {})
        value = call.value
        if call.name in ACCEPTS:
            if value is not None and value >= 0 and (port := re.search(r"sin6?_port=htons\((\d+)\)", call.arguments)):
                client = ports.get(int(port[1]))
                if client is not None:
                    table[value] = client
                found[place] = client
            continue
        if call.name in FORKS and value and value > 0 and processes[value] == value:
            tables.setdefault(value, {}).update(table)
            continue
        first = re.match(r"\d+", call.arguments)
        if first and call.name not in POLLERS | FORKS:
            found[place] = table.get(int(first[0]))
            if call.name == "close":
                table.pop(int(first[0]), None)
    return [found.get(place) for place in range(len(calls))]


def state_of(call: Call) -> State:
    """What the thread did in this call."""
    long = call.seconds is None or call.seconds * 1e6 > AT_ONCE_US
    if call.error in ("EAGAIN", "EWOULDBLOCK"):
        return "in vain" if not long else "waiting"
    if call.name in INPUT | OUTPUT:
        return "waiting" if long or call.error else "copying"
    if call.name in POLLERS:
        if long:
            return "waiting"
        return "in vain" if call.value == 0 else "asking"
    return "waiting" if long else "calling"


def _spans(own: Sequence[tuple[Call, int | None]], start: float, end: float) -> Iterable[Span]:
    """One thread's spans within the script, without gaps from its first call on."""
    def micro(at: float) -> int:
        return round((min(max(at, start), end) - start) * 1e6)

    previous: int | None = None
    for call, client in own:
        ended = call.ended_seconds
        if (ended is not None and ended <= start) or call.at_seconds >= end:
            if ended is not None and ended <= start:
                previous = 0
            continue
        begin, finish = micro(call.at_seconds), micro(end if ended is None else ended)
        if previous is not None and begin > previous:
            yield Span(previous, begin, "running")
        begin = max(begin, previous or 0)
        moved = max(call.value or 0, 0) if call.name in INPUT | OUTPUT and ended is not None and ended <= end else 0
        yield Span(begin, max(finish, begin), state_of(call), call.name, client, moved)
        previous = max(finish, begin)


def _clients(events: Sequence[dict[str, Any]], start: float, end: float) -> Iterable[Client]:
    def micro(at: float) -> int:
        return round((at - start) * 1e6)

    for number in sorted({event["client"] for event in events if "client" in event}):
        own = [event for event in events if event.get("client") == number]
        at = {name: [event for event in own if event["event"] == name] for name in (
            "connected", "asked", "answered", "left", "closed")}
        if not at["connected"]:
            continue
        answers = [micro(event["at"]) for event in at["answered"]]
        asks = tuple(Ask(micro(event["at"]), answers[place] if place < len(answers) else None)
                     for place, event in enumerate(at["asked"]))
        gone = [micro(event["at"]) for event in at["left"] + at["closed"]]
        yield Client(number, micro(at["connected"][0]["at"]), min(gone, default=micro(end)), asks)
