"""One load while it runs: what its connections have in common, and what they report.

The engine sets it up and reads it. Connections find here where to connect, how to behave and what to count in,
and know no engine.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from clients.counters import Window
from clients.load import Load
from clients.pollers import Poller
from clients.protocols import PROTOCOLS, Dialogue

clock = time.perf_counter_ns
SECOND = 1_000_000_000


class RunningLoad:
    """What one worker does of one load. `sockets` holds, by descriptor, whoever the poller's events are for."""

    load: Load  # this and the next three: from aim() on
    dialogue: Dialogue
    family: socket.AddressFamily
    target: tuple[str, int]

    def __init__(self, poller: Poller, sockets: dict[int, Any], emit: Callable[[dict[str, Any]], None]) -> None:
        self.poller, self.sockets, self.emit = poller, sockets, emit
        self.started = self.fast = self.churning = False
        self.spacing = 0.0  # open loop: nanoseconds between two requests of this worker
        self.timers: list[tuple[int, int, Callable[[], None]]] = []
        self.tie = itertools.count()
        self.window = Window()
        self.failures: Counter[str] = Counter()
        self.came_up = self.answers = self.lost = self.pending = self.unfinished = 0
        self.moved = clock()  # when a connection last came up, was answered or failed

    def aim(self, target: tuple[str, int], load: Load) -> None:
        """What there is to do, before any connection is made."""
        self.target, self.load = target, load
        self.family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.dialogue = PROTOCOLS[load.protocol](load.message_bytes, load.pipeline)
        self.churning = load.requests_per_connection is not None
        self.unfinished = load.requests or 0

    def pace(self, load: Load) -> None:
        """Makes `load` the one that runs: which loop, how fast."""
        self.load = load
        self.spacing = SECOND / load.rate if load.rate else 0.0
        self.fast = (self.dialogue.exact and load.pipeline == 1 and not (
            load.rate or load.think_seconds or self.churning or load.requests or load.slow))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (clock() + int(seconds * SECOND), next(self.tie), action))

    # what connections report

    def established(self, first: bool) -> None:
        self.window.opened += 1
        self.moved = clock()
        if first:
            self.came_up += 1
            if not self.load.greet:
                self.pending -= 1

    def greeted(self, right: bool) -> None:
        self.answers += right
        self.pending -= 1
        self.moved = clock()

    def failed(self, why: str, opened: bool) -> None:
        """A connection did not come up, or (opened) was gone before any answer, and is given up."""
        self.failures[why] += 1
        self.moved = clock()
        if self.load.greet or not opened:
            self.pending -= 1
        if self.started:
            self.window.errors[why] += 1

    def lose(self, why: str) -> None:
        """A connection that had been answered is gone."""
        self.lost += 1
        self.window.errors[why] += 1

    def wrong(self, number: int, what: str) -> None:
        """Connection `number` got a wrong answer."""
        self.window.wrong += 1
        self.window.first_wrong = self.window.first_wrong or f"connection {number}: {what}"

    def finished(self) -> None:
        """A request has its answer, or never will."""
        if self.unfinished:
            self.unfinished -= 1
            if not self.unfinished:
                self.emit({"event": "done"})
