"""For the fleet's tests: a fleet as an agent, real servers, and servers that misbehave on purpose."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 30.0


class Agent:
    """`python -m clients.fleet --orders`, driven as a runner drives it."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "clients.fleet", "--orders", *options], cwd=ROOT,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.seen: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self.wait_for("ready")

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, *names: str, seconds: float = DEADLINE) -> dict[str, Any]:
        """The next event with one of these names; all that pass by are kept in `seen`."""
        until = time.monotonic() + seconds
        while True:
            event = self.lines.get(timeout=max(0.001, until - time.monotonic()))
            assert event is not None, "the fleet ended"
            self.seen.append(event)
            if event["event"] in names:
                return event

    def ask(self, order: str, expected: str, **keys: Any) -> dict[str, Any]:
        self.tell(json.dumps({"order": order, **keys}))
        return self.wait_for(expected, "error")

    def load(self, port: int, **load: Any) -> dict[str, Any]:
        return self.ask("load", "connected", target=["127.0.0.1", port], load=load)

    def measure(self, seconds: float) -> dict[str, Any]:
        """begin, so long a window, end."""
        assert self.ask("begin", "begun")["event"] == "begun"
        time.sleep(seconds)  # the length of the window, not a wait for something to happen
        return self.ask("end", "result")

    def close(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def server(module: str, *options: str) -> Iterator[int]:
    """A server model as a process; yields its port."""
    process = subprocess.Popen([sys.executable, "-m", module, "--port", "0", *options], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout
        words = process.stdout.readline().split()
        assert words[:1] == [b"READY"], words
        yield int(words[2])
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def misbehaving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A threaded server that does `handle` with each connection and then closes it; yields its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        def one(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                handle(sock)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR) if sys.platform == "linux" else None


def echo(sock: socket.socket, change: Callable[[bytes], bytes] = bytes.upper) -> None:
    """The right service, or with `change` a wrong one."""
    while data := sock.recv(65_536):
        sock.sendall(change(data))
