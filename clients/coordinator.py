"""Gives the orders to the worker processes of a fleet and merges what they answer."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from clients import report
from clients.load import Load
from clients.system import cpu_times, cpus, raise_descriptor_limit

SPARE_DESCRIPTORS = 64  # of a process, for everything that is not a connection
SELECT_SOCKETS = 500  # Windows' select takes 512
MOST_WORKERS = 64
CONNECTIONS_PER_WORKER = 250  # active ones; below that a second process costs more CPU than it brings
ANSWER_SECONDS = 30.0
DATAGRAM_BYTES = (8, 65_507)  # its number, for the least; what UDP over IPv4 takes, for the most
KNOBS = ("rate", "active", "think_seconds")


class FleetError(Exception):
    """An order that could not be obeyed: what, and why."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what, self.why = what, why


class WorkerProcess:
    def __init__(self, poller: str, events: queue.SimpleQueue[tuple[Any, Any]]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clients.worker", poller], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment)
        assert self.process.stdin and self.process.stdout
        self.stdin, stdout = self.process.stdin, self.process.stdout
        threading.Thread(target=read_lines, args=(stdout, self, events), daemon=True).start()

    def tell(self, order: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a dead worker shows by the end of its output
            self.stdin.write(json.dumps(order).encode() + b"\n")
            self.stdin.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def read_lines(stream: IO[bytes], source: Any, events: queue.SimpleQueue[tuple[Any, Any]]) -> None:
    """Puts (source, line) for every line and (source, None) at the end. Runs in a thread, on every system."""
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            events.put((source, line))
    events.put((source, None))


class Fleet:
    """The workers as one. `emit` takes the events; `events` is where orders and workers' lines come in."""

    def __init__(self, emit: Callable[[dict[str, Any]], None], poller: str, workers: int | None = None) -> None:
        self.emit, self.poller, self.asked = emit, poller, workers
        self.events: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self.orders: list[bytes | None] = []
        self.limit = raise_descriptor_limit()
        self.crew: list[WorkerProcess] = []
        self.at_work: list[WorkerProcess] = []
        self.load: Load | None = None
        self.notes: list[str] = []
        self.cpu = cpu_times()
        self.progress: dict[WorkerProcess, dict[str, Any]] = {}
        self.done = 0
        self.told: tuple[float, int] = (0.0, 0)
        self.hire(workers or 1)

    def hire(self, count: int) -> None:
        while len(self.crew) < count:
            self.crew.append(WorkerProcess(self.poller, self.events))

    def close(self) -> None:
        for worker in self.crew:
            with contextlib.suppress(OSError):
                worker.stdin.close()  # all at once; then wait for each
        for worker in self.crew:
            worker.close()
        self.crew = []

    # events

    def next_event(self, timeout: float) -> None:
        """Handles one line from anywhere; raises queue.Empty after `timeout` seconds without any."""
        source, line = self.events.get(timeout=max(0.0, timeout))
        if source is None:
            self.orders.append(line)
        elif line is None:
            if source in self.crew:
                self.crew.remove(source)
            if source in self.at_work:
                self.stop()
                raise FleetError("a worker process ended", f"exit status {source.process.wait()}")
        else:
            self.heard(source, json.loads(line))

    def heard(self, worker: WorkerProcess, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            self.progress[worker] = event
            if len(self.progress) >= len(self.at_work):
                self.tell_progress()
        elif event["event"] == "done":
            self.done -= 1
            if not self.done:
                self.emit({"event": "done"})
        else:
            self.answers[worker] = event

    def tell_progress(self) -> None:
        totals = {name: sum(event[name] for event in self.progress.values())
                  for name in ("requests", "connections", "errors")}
        now, (then, before) = time.monotonic(), self.told
        self.told, self.progress = (now, totals["requests"]), {}
        self.emit({"event": "progress", "requests": totals["requests"],
                   "per_second": round((totals["requests"] - before) / (now - then), 1),
                   "connections": totals["connections"], "errors": totals["errors"]})

    def ask(self, orders: list[dict[str, Any]], timeout: float = ANSWER_SECONDS) -> list[dict[str, Any]]:
        """Gives each worker at work its order and returns their answers, in the workers' order."""
        self.answers: dict[WorkerProcess, dict[str, Any]] = {}
        for worker, order in zip(self.at_work, orders, strict=True):
            worker.tell(order)
        deadline = time.monotonic() + timeout
        while len(self.answers) < len(self.at_work):
            try:
                self.next_event(deadline - time.monotonic())
            except queue.Empty:
                raise FleetError(f"no answer to {orders[0]['order']!r}", f"workers silent for {timeout:g} s") from None
        return [self.answers[worker] for worker in self.at_work]

    def ask_all(self, **order: Any) -> list[dict[str, Any]]:
        return self.ask([order] * len(self.at_work))

    # orders

    def begin_load(self, target: tuple[str, int], load: Load) -> dict[str, Any]:
        """Opens the connections and starts the load; returns the connected event."""
        self.stop()
        self.notes = []
        load, workers = self.fit(load)
        self.hire(workers)
        self.load, self.at_work = load, self.crew[:workers]
        shares = load.split(workers)
        orders: list[dict[str, Any]] = []
        first = 0
        for index, share in enumerate(shares):
            orders.append({"order": "load", "target": target, "load": share.to_dict(),
                           "share": {"index": index, "of": workers, "first": first}})
            first += share.connections
        self.done = sum(1 for share in shares if share.requests)
        parts = self.ask(orders, load.connect_seconds + ANSWER_SECONDS)
        self.told = (time.monotonic(), 0)
        for worker in self.at_work:
            worker.tell({"order": "start"})
        failed = report.added([part["failed"] for part in parts])
        if load.requests is not None:
            self.notes.append("the requests start at begin")
        if "OSError EADDRNOTAVAIL" in failed:
            self.notes.append("no local ports left for this target: give it a second address")
        return {"event": "connected", "asked": load.connections,
                **{name: sum(part[name] for part in parts) for name in ("connected", "answered")},
                "failed": failed, "seconds": max(part["seconds"] for part in parts), "notes": self.notes}

    def begin(self) -> dict[str, Any]:
        self.need_load("begin")
        self.cpu = cpu_times()
        self.ask_all(order="begin")
        return {"event": "begun"}

    def end(self) -> dict[str, Any]:
        load = self.need_load("end")
        parts = self.ask_all(order="end")
        user, system = (now - then for now, then in zip(cpu_times(), self.cpu, strict=True))
        return report.result(parts, (user, system), load.rate, self.poller, self.notes)

    def change(self, keys: dict[str, Any]) -> dict[str, Any]:
        load = self.need_load("set")
        if strange := [key for key in keys if key not in KNOBS]:
            raise FleetError(f"cannot set {strange[0]!r}", f"a running load lets you set {', '.join(KNOBS)}")
        self.load = load.changed(**keys)
        self.ask([{"order": "set", "load": {name: getattr(share, name) for name in KNOBS}}
                  for share in self.load.split(len(self.at_work))])
        return {"event": "set"}

    def stop(self) -> dict[str, Any]:
        at_work, self.load = self.at_work, None
        if at_work:
            self.at_work = [worker for worker in at_work if worker in self.crew]
            self.ask_all(order="stop")
            self.at_work, self.progress = [], {}
        return {"event": "stopped"}

    def need_load(self, order: str) -> Load:
        if not self.load:
            raise FleetError(f"cannot obey {order!r}", "no load is running")
        return self.load

    def fit(self, load: Load) -> tuple[Load, int]:
        """How many workers, and the load cut to what they can hold; notes say so."""
        if load.protocol == "udp" and load.message_bytes != (
                size := min(max(load.message_bytes, DATAGRAM_BYTES[0]), DATAGRAM_BYTES[1])):
            self.notes.append(f"message_bytes clamped to {size:,}: {DATAGRAM_BYTES[0]} (its number) "
                              f"to {DATAGRAM_BYTES[1]:,} bytes")
            load = load.changed(message_bytes=size)
        room = self.limit - SPARE_DESCRIPTORS if self.limit else 1_000_000
        if self.poller == "select":
            room = min(room, SELECT_SOCKETS)
        needed = -(-load.connections // room)
        workers = load.workers or self.asked
        if workers is None:
            useful = min(max(1, cpus() // 2), -(-load.working // CONNECTIONS_PER_WORKER))  # the server needs CPUs too
            workers = min(max(useful, needed, 1), MOST_WORKERS)
        workers = min(workers, load.connections)
        if load.connections > workers * room:
            most = workers * room
            why = "select takes 512 sockets" if room == SELECT_SOCKETS else f"descriptor limit {self.limit:,}"
            self.notes.append(f"clamped to {most:,} connections: {why} per process, {workers} workers")
            load = load.changed(connections=most, active=None if load.active is None else min(load.active, most))
        return load, workers
