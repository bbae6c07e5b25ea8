"""The loop of one worker: opens connections and keeps them at work. One thread, one poller.

Orders are obeyed between two turns of the loop, so nothing here needs a lock.
"""

from __future__ import annotations

import gc
import heapq
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from clients.connection import NEVER, Connection
from clients.counters import DATAGRAMS, Window
from clients.datagrams import DatagramConnection
from clients.fast import run_fast
from clients.load import Load
from clients.pollers import MOST, Poller
from clients.running import SECOND, RunningLoad
from clients.slow import SlowConnection

clock = time.perf_counter_ns
HANDSHAKES = 128  # connections on their way up at a time: fewer than any accept queue holds
STALL = SECOND // 20  # nothing moves for so long: let more knock
TICK = SECOND // 2


class Engine:
    """Puts one load at a time on one server. `emit` takes the events, `orders` holds what is to be obeyed."""

    def __init__(self, poller: Poller, orders: deque[dict[str, Any]], emit: Callable[[dict[str, Any]], None]) -> None:
        self.poller, self.orders, self.emit = poller, orders, emit
        self.sockets: dict[int, Any] = {}  # by descriptor: connections, and the one that wakes us for orders
        self.clear()

    def clear(self) -> None:
        self.run = RunningLoad(self.poller, self.sockets, self.emit)
        self.connections: list[Connection] = []
        self.active: list[Connection] = []
        self.connecting = False
        self.before = self.next_up = 0  # requests of earlier windows; connections that have been tried
        self.tick_at = clock() + TICK

    # orders

    def open(self, target: tuple[str, int], load: Load, index: int, workers: int, first: int) -> None:
        """Starts to connect; "connected" is emitted when that has come to rest."""
        self.close()
        self.index, self.workers = index, workers
        self.run.aim(target, load)
        kind = DatagramConnection if load.protocol == "udp" else SlowConnection if load.slow else Connection
        each, left = divmod(load.requests or 0, load.working or 1)
        for number in range(load.connections):
            quota = NEVER if load.requests is None else each + (number < left)
            self.connections.append(kind(self.run, first + number, quota))
        self.handshakes = self.share = max(8, HANDSHAKES // workers)
        if load.protocol == "udp":
            self.sweep()
        self.connecting, self.opened_at = True, clock()
        self.run.moved = self.opened_at

    def start(self) -> None:
        """The active connections begin to work. With a number of requests they wait for begin instead."""
        self.apply(self.run.load)
        if self.run.load.requests is None:
            self.go()

    def go(self) -> None:
        gc.freeze()  # a crowd of 10,000 connections need not be searched for garbage again and again
        self.run.started, self.base, self.slot = True, clock(), 0
        for connection in self.active:
            connection.proceed()

    def apply(self, load: Load) -> None:
        """Makes `load` the one that runs: who is active, which loop, how fast."""
        self.active = self.connections[:load.working]
        self.base, self.slot = clock(), 0
        for connection in self.connections:
            connection.active, connection.expect = False, None
            if self.run.fast:  # run_fast keeps one of the two
                connection.sent = connection.started
        for connection in self.active:
            connection.active = True
            connection.queue.clear()
        self.run.pace(load)

    def change(self, load: Load) -> None:
        self.apply(load)
        for connection in self.active:
            if not connection.flight:  # else its answer makes it go on
                connection.proceed()

    def begin(self) -> None:
        self.before += self.run.window.requests
        for connection in self.connections:
            connection.answers = 0
        self.run.window = Window()
        if self.run.load.requests is not None and not self.run.started:
            self.go()

    def end(self) -> dict[str, Any]:
        run, window = self.run, self.run.window
        begun, report = window.begun, window.close()
        served = sum(c.answers > 0 or c.seen >= begun for c in self.connections)
        held = sum(c.up and c.held for c in self.connections)
        datagrams = {name: window.datagrams[name] for name in DATAGRAMS} if run.load.protocol == "udp" else None
        return {**report, "datagrams": datagrams, "shares": [c.answers for c in self.active], "connections": {
            "asked": len(self.connections), "connected": run.came_up, "served": served, "held": held,
            "opened": window.opened, "failed": dict(run.failures), "lost": run.lost}}

    def close(self) -> None:
        abort = len(self.connections) > 1000 or self.run.churning
        for connection in self.connections:
            connection.close(abort=abort)
        self.clear()
        gc.unfreeze()
        gc.collect()

    def sweep(self) -> None:
        """Finds the datagrams that are lost, from time to time."""
        run, now, patience = self.run, clock(), self.run.load.patience
        for connection in self.connections if run.came_up > run.answers else self.active:
            connection.overdue(now - int(patience * SECOND))
        run.after(min(max(patience / 10, 0.005), 0.1), self.sweep)

    # the loop

    def turn(self) -> None:
        """Waits once (fast: until there is something else to do) and handles what has come."""
        run = self.run
        if run.fast and run.started:
            run_fast(run, self.orders, self.tick_at)
            now = clock()
        else:
            now = clock()
            wake = self.tick_at
            if run.timers:
                wake = min(wake, run.timers[0][0])
            if run.spacing and run.started:
                wake = min(wake, self.base + int(self.slot * run.spacing))
            if self.connecting:
                wake = min(wake, now + STALL // 4)
            sockets = self.sockets
            for descriptor, event in self.poller.wait_precisely(max(0, wake - now) / SECOND, MOST):
                if descriptor in sockets:
                    sockets[descriptor].ready(event)
            now = clock()
            while run.timers and run.timers[0][0] <= now:
                heapq.heappop(run.timers)[2]()
            if run.spacing and run.started:
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
            due = self.base + int((self.slot + self.index / self.workers) * self.run.spacing)
            if due > now:
                return
            self.active[self.slot % len(self.active)].due(due)
            self.slot += 1

    def connect(self, now: int) -> None:
        """Brings connections up, a bounded number at a time, and notices when that is over."""
        run, load, total = self.run, self.run.load, len(self.connections)
        if now - run.moved > STALL and self.next_up < total:
            self.handshakes += self.share
            run.moved = now
        while self.next_up < total and run.pending < self.handshakes:
            run.pending += 1
            self.next_up += 1
            self.connections[self.next_up - 1].open()
        elapsed = (now - self.opened_at) / SECOND
        settled = self.next_up == total and (not run.pending or now - run.moved > load.settle_seconds * SECOND)
        if settled or elapsed > load.connect_seconds:
            if untried := total - self.next_up:
                run.failures["timeout"] += untried
                self.next_up = total
            self.connecting = False
            self.emit({"event": "connected", "asked": total, "connected": run.came_up, "answered": run.answers,
                       "failed": dict(run.failures), "seconds": elapsed})

    def tick(self, now: int) -> None:
        """Twice a second: progress, requests that wait too long, memory."""
        self.tick_at = now + TICK
        if not self.run.started:
            return
        window, load = self.run.window, self.run.load
        window.compact()
        if not load.slow and load.protocol != "udp":  # which sweep() looks after
            latest = now - int(load.patience * SECOND)
            for connection in self.active:
                connection.overdue(latest)
        self.emit({"event": "progress", "requests": self.before + window.requests, "connections":
                   sum(c.up for c in self.connections), "errors": sum(window.errors.values()) + window.wrong})
