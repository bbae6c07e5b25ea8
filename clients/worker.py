"""One worker process of a fleet: an engine that obeys JSON lines on stdin and answers on stdout.

Started by clients.fleet, which merges what several workers say. It ends with its stdin.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections import deque
from typing import Any

from clients.engine import Engine
from clients.load import Load
from clients.pollers import FAMILIES, READ, available


class Doorbell:
    """Wakes the loop when an order has come. A thread reads stdin, because Windows cannot poll a pipe."""

    expect = None

    def __init__(self, orders: deque[dict[str, Any]]) -> None:
        self._bell, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.recv = self.sock.recv
        self._orders = orders
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        # a reader of its own: the interpreter's lock on sys.stdin would be held at exit
        with os.fdopen(os.dup(0), "rb") as stream:
            for line in stream:
                self._orders.append(json.loads(line))
                self._bell.send(b"!")
        self._orders.append({"order": "exit"})
        self._bell.send(b"!")

    def received(self, data: bytes) -> None:
        pass

    def ready(self, event: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self.recv(64)


def emit(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def obey(engine: Engine, order: dict[str, Any]) -> None:
    match order["order"]:
        case "load":
            share = order["share"]
            load = Load().sized(**order["load"])  # validated by whoever split it
            host, port = order["target"]
            engine.open((host, port), load, share["index"], share["of"], share["first"])
        case "start":
            engine.start()
        case "begin":
            engine.begin()
            emit({"event": "begun"})
        case "end":
            emit({"event": "result", **engine.end()})
        case "set":
            engine.change(engine.run.load.sized(**order["load"]))
            emit({"event": "set"})
        case "stop":
            engine.close()
            emit({"event": "stopped"})


def main(poller: str) -> None:
    orders: deque[dict[str, Any]] = deque()
    engine = Engine(FAMILIES[poller](), orders, emit)
    doorbell = Doorbell(orders)
    engine.sockets[doorbell.sock.fileno()] = doorbell
    engine.poller.add(doorbell.sock.fileno(), READ)
    while True:
        while orders:
            order = orders.popleft()
            if order["order"] == "exit":
                return
            obey(engine, order)
        engine.turn()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main(sys.argv[1] if len(sys.argv) > 1 else available()[0])
