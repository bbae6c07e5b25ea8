"""The loop of one worker: opens connections, keeps them at work, counts. One thread, one poller.

Orders are obeyed between two turns of the loop, so nothing here needs a lock.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from clients.connection import NEVER, Connection
from clients.counters import DATAGRAMS, Window
from clients.datagrams import DatagramConnection
from clients.fast import run_fast
from clients.load import Load
from clients.pollers import MOST, Poller
from clients.protocols import PROTOCOLS, Dialogue
from clients.slow import SlowConnection

clock = time.perf_counter_ns
SECOND = 1_000_000_000
HANDSHAKES = 128  # connections on their way up at a time: fewer than any accept queue holds
STALL = SECOND // 20  # nothing moves for so long: let more knock
TICK = SECOND // 2
RETRY_SECONDS = 0.1  # churn: the pause after a connection that could not be opened


class Engine:
    """Puts one load at a time on one server. `emit` takes the events, `orders` holds what is to be obeyed."""

    load: Load
    dialogue: Dialogue
    family: socket.AddressFamily
    target: tuple[str, int]

    def __init__(self, poller: Poller, orders: deque[dict[str, Any]], emit: Callable[[dict[str, Any]], None]) -> None:
        self.poller, self.orders, self.emit = poller, orders, emit
        self.sockets: dict[int, Any] = {}  # by descriptor: connections, and the one that wakes us for orders
        self.clear()

    def clear(self) -> None:
        self.connections: list[Connection] = []
        self.active: list[Connection] = []
        self.connecting = self.started = self.fast = self.churning = False
        self.spacing = 0.0  # open loop: nanoseconds between two requests of this worker
        self.timers: list[tuple[int, int, Callable[[], None]]] = []
        self.tie = itertools.count()
        self.window = Window()
        self.before = 0  # requests of earlier windows
        self.failures: Counter[str] = Counter()
        self.came_up = self.answers = self.lost = self.pending = self.next_up = self.unfinished = 0
        self.tick_at = clock() + TICK

    # orders

    def open(self, target: tuple[str, int], load: Load, index: int, workers: int, first: int) -> None:
        """Starts to connect; "connected" is emitted when that has come to rest."""
        self.close()
        self.load, self.target, self.index, self.workers = load, target, index, workers
        self.family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self.dialogue = PROTOCOLS[load.protocol](load.message_bytes, load.pipeline)
        self.churning = load.requests_per_connection is not None
        kind = DatagramConnection if load.protocol == "udp" else SlowConnection if load.slow else Connection
        each, left = divmod(load.requests or 0, load.working or 1)
        for number in range(load.connections):
            quota = NEVER if load.requests is None else each + (number < left)
            self.connections.append(kind(self, first + number, quota))
        self.unfinished = load.requests or 0
        self.handshakes = self.share = max(8, HANDSHAKES // workers)
        if load.protocol == "udp":
            self.sweep()
        self.connecting, self.opened_at = True, clock()
        self.moved = self.opened_at

    def start(self) -> None:
        """The active connections begin to work. With a number of requests they wait for begin instead."""
        self.apply(self.load)
        if self.load.requests is None:
            self.go()

    def go(self) -> None:
        gc.freeze()  # a crowd of 10,000 connections need not be searched for garbage again and again
        self.started, self.base, self.slot = True, clock(), 0
        for connection in self.active:
            connection.proceed()

    def apply(self, load: Load) -> None:
        """Makes `load` the one that runs: who is active, which loop, how fast."""
        self.load = load
        self.active = self.connections[:load.working]
        self.spacing = SECOND / load.rate if load.rate else 0.0
        self.base, self.slot = clock(), 0
        for connection in self.connections:
            connection.active, connection.expect = False, None
            if self.fast:  # run_fast keeps one of the two
                connection.sent = connection.started
        for connection in self.active:
            connection.active = True
            connection.queue.clear()
        self.fast = (self.dialogue.exact and load.pipeline == 1 and not (
            load.rate or load.think_seconds or self.churning or load.requests or load.slow))

    def change(self, load: Load) -> None:
        self.apply(load)
        for connection in self.active:
            if not connection.flight:  # else its answer makes it go on
                connection.proceed()

    def begin(self) -> None:
        self.before += self.window.requests
        for connection in self.connections:
            connection.answers = 0
        self.window = Window()
        if self.load.requests is not None and not self.started:
            self.go()

    def end(self) -> dict[str, Any]:
        begun, report = self.window.begun, self.window.close()
        served = sum(c.answers > 0 or c.seen >= begun for c in self.connections)
        held = sum(c.up and c.held for c in self.connections)
        datagrams = {name: self.window.datagrams[name] for name in DATAGRAMS} if self.load.protocol == "udp" else None
        return {**report, "datagrams": datagrams, "shares": [c.answers for c in self.active], "connections": {
            "asked": len(self.connections), "connected": self.came_up, "served": served, "held": held,
            "opened": self.window.opened, "failed": dict(self.failures), "lost": self.lost}}

    def close(self) -> None:
        abort = len(self.connections) > 1000 or self.churning
        for connection in self.connections:
            connection.close(abort=abort)
        self.clear()
        gc.unfreeze()
        gc.collect()

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

    def failed(self, connection: Connection, why: str) -> None:
        """A connection that did not come up, or that was gone before any answer."""
        if self.started and self.churning and connection.opened:
            self.window.errors[why] += 1
            self.after(RETRY_SECONDS, connection.open)
            return
        self.failures[why] += 1
        self.moved = clock()
        if self.load.greet or not connection.opened:
            self.pending -= 1
        if self.started:
            self.window.errors[why] += 1

    def lose(self, connection: Connection, why: str) -> None:
        self.lost += 1
        self.window.errors[why] += 1
        if self.started and self.churning and connection.active:
            connection.open()

    def wrong(self, connection: Connection, what: str) -> None:
        self.window.wrong += 1
        self.window.first_wrong = self.window.first_wrong or f"connection {connection.number}: {what}"

    def finished(self) -> None:
        if self.unfinished:
            self.unfinished -= 1
            if not self.unfinished:
                self.emit({"event": "done"})

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (clock() + int(seconds * SECOND), next(self.tie), action))

    def sweep(self) -> None:
        """Finds the datagrams that are lost, from time to time."""
        now, patience = clock(), self.load.patience
        for connection in self.connections if self.came_up > self.answers else self.active:
            connection.overdue(now - int(patience * SECOND))
        self.after(min(max(patience / 10, 0.005), 0.1), self.sweep)

    # the loop

    def turn(self) -> None:
        """Waits once (fast: until there is something else to do) and handles what has come."""
        if self.fast and self.started:
            run_fast(self)
            now = clock()
        else:
            now = clock()
            wake = self.tick_at
            if self.timers:
                wake = min(wake, self.timers[0][0])
            if self.spacing and self.started:
                wake = min(wake, self.base + int(self.slot * self.spacing))
            if self.connecting:
                wake = min(wake, now + STALL // 4)
            sockets = self.sockets
            for descriptor, event in self.poller.wait_precisely(max(0, wake - now) / SECOND, MOST):
                if descriptor in sockets:
                    sockets[descriptor].ready(event)
            now = clock()
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            if self.spacing and self.started:
                self.send_due(now)
            if self.connecting:
                self.connect(now)
        if now >= self.tick_at:
            self.tick(now)

    def send_due(self, now: int) -> None:
        """Open loop: each request at its time, the connections in turn; workers are staggered."""
        if not self.active:
            return
        for _ in range(MOST):
            due = self.base + int((self.slot + self.index / self.workers) * self.spacing)
            if due > now:
                return
            self.active[self.slot % len(self.active)].due(due)
            self.slot += 1

    def connect(self, now: int) -> None:
        """Brings connections up, a bounded number at a time, and notices when that is over."""
        load, total = self.load, len(self.connections)
        if now - self.moved > STALL and self.next_up < total:
            self.handshakes += self.share
            self.moved = now
        while self.next_up < total and self.pending < self.handshakes:
            self.pending += 1
            self.next_up += 1
            self.connections[self.next_up - 1].open()
        elapsed = (now - self.opened_at) / SECOND
        settled = self.next_up == total and (not self.pending or now - self.moved > load.settle_seconds * SECOND)
        if settled or elapsed > load.connect_seconds:
            if untried := total - self.next_up:
                self.failures["timeout"] += untried
                self.next_up = total
            self.connecting = False
            self.emit({"event": "connected", "asked": total, "connected": self.came_up, "answered": self.answers,
                       "failed": dict(self.failures), "seconds": elapsed})

    def tick(self, now: int) -> None:
        """Twice a second: progress, requests that wait too long, memory."""
        self.tick_at = now + TICK
        if not self.started:
            return
        window, load = self.window, self.load
        window.compact()
        if not load.slow and load.protocol != "udp":  # which sweep() looks after
            latest = now - int(load.patience * SECOND)
            for connection in self.active:
                connection.overdue(latest)
        self.emit({"event": "progress", "requests": self.before + window.requests, "connections":
                   sum(c.up for c in self.connections), "errors": sum(window.errors.values()) + window.wrong})
