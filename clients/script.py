"""A few clients that do what a script says, each step at its time, and tell when what happened.

    python -m clients.script --target 127.0.0.1:9000 --script '[[0, 1, "connect"], [40, 1, "ask"], [80, 1, "leave"]]'

A step is [milliseconds from the start, client, what]: connect, ask (a request, whether or not the last one is
answered), or leave. Nothing waits for a slow server: every step comes at its time, and each answer is noted when it
comes. Ends when all steps are done and everyone has left or is answered, at the latest --patience seconds after the
last step.

Events on stdout, JSON lines, times in seconds since the epoch: start, connected (with the client's port), asked,
answered, left, closed (by the server), failed, end. Exits 2 for a script that makes no sense.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from typing import Any

DOINGS = ("connect", "ask", "leave")
REQUEST_BYTES = 16

Step = tuple[float, int, str]


def steps_of(text: str) -> list[Step]:
    """The script, by time. Raises ValueError for one that makes no sense."""
    steps = [(float(at), int(client), str(what)) for at, client, what in json.loads(text)]
    connected: set[int] = set()
    for at, client, what in sorted(steps, key=lambda step: step[0]):
        if what not in DOINGS or not 0 <= at <= 60_000:
            raise ValueError(f"[{at:g}, {client}, {what!r}]: a step is [0 to 60000 ms, client, one of {DOINGS}]")
        if (what == "connect") == (client in connected):
            raise ValueError(f"at {at:g} ms client {client} can not {what}")
        (connected.discard if what == "leave" else connected.add)(client)
    return sorted(steps, key=lambda step: step[0])


class Clients:
    """All of the script's clients, on one poller."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.poller = selectors.DefaultSelector()
        self.sockets: dict[int, socket.socket] = {}
        self.asked: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.received: dict[int, int] = {}

    def tell(self, event: str, client: int = 0, at: float | None = None, **more: Any) -> None:
        who = {"client": client} if client else {}
        print(json.dumps({"event": event, **who, "at": time.time() if at is None else at, **more}), flush=True)

    def connect(self, client: int) -> None:
        family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = time.time()
        sock.settimeout(5)
        sock.connect(self.target)  # the kernel answers, whatever the server does
        sock.setblocking(False)
        self.sockets[client] = sock
        self.asked[client] = self.answered[client] = self.received[client] = 0
        self.poller.register(sock, selectors.EVENT_READ, client)
        self.tell("connected", client, at, port=sock.getsockname()[1])

    def ask(self, client: int) -> None:
        if client in self.sockets:  # else the server has closed it
            self.asked[client] += 1
            at = time.time()
            self.sockets[client].send(b"client %-9d" % client)  # so few bytes always fit
            self.tell("asked", client, at, number=self.asked[client])

    def leave(self, client: int) -> None:
        if sock := self.sockets.pop(client, None):
            self.poller.unregister(sock)
            at = time.time()
            sock.close()
            self.tell("left", client, at)

    def turn(self, seconds: float) -> None:
        """Waits so long, noting what comes."""
        if not self.sockets:
            time.sleep(seconds)  # Windows' select takes no empty lists
            return
        for key, _ in self.poller.select(seconds):
            client = key.data
            try:
                data, why = self.sockets[client].recv(65536), ""
            except OSError as error:
                data, why = b"", type(error).__name__
            at = time.time()
            self.received[client] += len(data)
            while self.received[client] >= (self.answered[client] + 1) * REQUEST_BYTES:
                self.answered[client] += 1
                self.tell("answered", client, at, number=self.answered[client])
            if not data:
                self.poller.unregister(key.fileobj)
                self.sockets.pop(client).close()
                self.tell("closed", client, at, why=why)

    def waiting(self) -> bool:
        return any(self.answered[client] < self.asked[client] for client in self.sockets)


def play(clients: Clients, steps: list[Step], patience: float) -> None:
    """Plays the script."""
    clock = time.monotonic
    start = clock()
    clients.tell("start")
    for at, client, what in steps:
        while (left := start + at / 1000 - clock()) > 0:
            clients.turn(left)
        try:
            getattr(clients, what)(client)
        except OSError as error:
            clients.tell("failed", client, what=what, why=str(error))
    until = clock() + patience
    while clients.waiting() and (left := until - clock()) > 0:
        clients.turn(left)
    clients.tell("end")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clients.script", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="host:port, a numeric address")
    parser.add_argument("--script", required=True, help="the steps, as JSON")
    parser.add_argument("--patience", type=float, default=1.0, help="seconds after the last step (default: 1)")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")
    try:
        steps = steps_of(options.script)
        target = (host.strip("[]"), int(port))
    except (ValueError, TypeError) as error:
        print(f"clients.script: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    play(Clients(target), steps, options.patience)


if __name__ == "__main__":
    main()
